"""`python -m bench.lookup`: what one route look-up costs, with one route and with very many.

- Every key asked for is a new bytes object, as on a real connection: its hash is not yet known.
- Keys are drawn at random over the whole table, so a large table pays for the processor's caches too.
- A figure is the best of some repeats, less the loop around it.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from router.balance.round_robin import RoundRobin
from router.messages import EndpointSpec, PutEndpoint, PutPool, PutRoute, TableOp
from router.table.endpoint import Loads
from router.table.routes import RouteTable

from .accounting import rss_of
from .errors import BenchError

ASKED = 20_000
REPEATS = 7
DOMAIN = "apps.example.com"


class NoCounts:
    """In-flight counts of a table nobody sends requests through."""

    own: Sequence[int] = ()
    lanes: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of look-up: host and path from a random app's number, and the route key that must be found."""

    about: str
    host: str
    path: str
    found: str | None


QUESTIONS = (
    Question("host", f"app-{{n}}.{DOMAIN}", "/", f"app-{{n}}.{DOMAIN}"),
    Question("host, long path and query", f"app-{{n}}.{DOMAIN}", "/a/b/c/d/{n}?q=1", f"app-{{n}}.{DOMAIN}"),
    Question("longest of three paths", f"paths.{DOMAIN}", "/a/b/c/{n}?q=1", f"paths.{DOMAIN}/a/b/c"),
    Question("wildcard, two labels away", f"x.y{{n}}.wild.{DOMAIN}", "/", f"*.wild.{DOMAIN}"),
    Question("unknown host", f"nobody-{{n}}.{DOMAIN}", "/", None),
)
ALWAYS_THERE = (f"paths.{DOMAIN}", f"paths.{DOMAIN}/a", f"paths.{DOMAIN}/a/b/c", f"*.wild.{DOMAIN}")


def route(key: str, number: int) -> list[TableOp]:
    """The operations that make one route with one endpoint."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    spec = EndpointSpec(address, 8080, app=f"app-{number}", instance_id=f"instance-{number}", instance_index="0")
    return [PutEndpoint.of(number, number, spec), PutPool(key, "/", "round-robin"), PutRoute(key, number)]


def build(size: int) -> RouteTable:
    """A table of so many apps, and the few routes with paths and wildcards."""
    table = RouteTable(Loads(NoCounts()), lambda name, options: RoundRobin())
    keys = [f"app-{n}.{DOMAIN}" for n in range(size)]
    for number, key in enumerate((*keys, *ALWAYS_THERE), start=1):
        table.apply(route(key, number))
    return table


def nanoseconds(ask: Callable[[bytes, bytes], object], question: Question, numbers: Sequence[int]) -> float:
    """The best mean time of asking these questions, less that of asking nothing."""

    def once(function: Callable[[bytes, bytes], object]) -> float:
        asked = [(question.host.format(n=n).encode(), question.path.format(n=n).encode()) for n in numbers]
        began = time.perf_counter_ns()
        for host, path in asked:
            function(host, path)
        return (time.perf_counter_ns() - began) / len(asked)

    def nothing(host: bytes, path: bytes) -> None:
        return None

    return min(once(ask) for _ in range(REPEATS)) - min(once(nothing) for _ in range(REPEATS))


def verify(table: RouteTable, question: Question, number: int) -> None:
    """The look-up finds what it should."""
    pool = table.lookup(question.host.format(n=number).encode(), question.path.format(n=number).encode())
    found = pool.key if pool else None
    expected = question.found.format(n=number) if question.found else None
    if found != expected:
        raise BenchError(f"{question.about}: the table gives {found}, expected {expected}")


def measure(size: int) -> list[float]:
    """Build a table of so many apps, say what that cost, and time every question in it."""
    me = [os.getpid()]
    memory, began = rss_of(me), time.perf_counter()
    table = build(size)
    seconds, memory = time.perf_counter() - began, rss_of(me) - memory
    if size > 1:
        print(
            f"{size:,} routes built in {seconds:.2f} s ({seconds / size * 1e6:.1f} µs each), "
            f"{memory / size:,.0f} bytes each\n"
        )
    numbers = [random.randrange(size) for _ in range(ASKED)]
    for question in QUESTIONS:
        verify(table, question, numbers[0])
    return [nanoseconds(table.lookup, question, numbers) for question in QUESTIONS]


def main(
    routes: Annotated[int, typer.Option(min=2, help="Routes of the large table.")] = 100_000,
) -> None:
    """Measure one route look-up with one route and with many."""
    try:
        few, many = measure(1), measure(routes)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"| look-up | 1 route, ns | {routes:,} routes, ns |\n| --- | ---: | ---: |")
    for question, one, lots in zip(QUESTIONS, few, many, strict=True):
        print(f"| {question.about} | {one:,.0f} | {lots:,.0f} |")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench.lookup")
