"""`python -m bench.limits [NAME …]`: what the router promises, put to the test: memory, slow peers, failing backends.

Each claim is measured on a router of its own, started by the bench. Prints a Markdown table; the exit code is 1 if a
claim does not hold.
"""

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BenchError
from .calls import calls
from .connections import idle, slowloris, stalled
from .failures import closing, killed
from .router import Row
from .streams import streams

CLAIMS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "slowloris": slowloris,
    "idle": idle,
    "stalled": stalled,
    "closing": closing,
    "killed": killed,
}


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of: streams, grpc, {', '.join(CLAIMS)}.")] = None,
    mebibytes: Annotated[int, typer.Option(min=1, help="Size of each stream.")] = 1024,
    messages: Annotated[int, typer.Option(min=1, help="Messages of each gRPC call.")] = 10_000,
) -> None:
    """Put what the router promises to the test."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    claims = {"streams": partial(streams, size=mebibytes << 20), "grpc": partial(calls, messages=messages), **CLAIMS}
    for name in names or []:
        if name not in claims:
            raise typer.BadParameter(f"no {name!r}; there are {', '.join(claims)}")
    print("| claim | target | seen | |\n|---|---|---|---|", flush=True)
    broken = False
    try:
        for name in names or claims:
            with tempfile.TemporaryDirectory(prefix="router-limits-") as directory:
                for row in claims[name](Path(directory)):
                    broken |= not row.holds
                    verdict = "holds" if row.holds else "**FALLS SHORT**"
                    print(f"| {row.claim} | {row.target} | {row.seen} | {verdict} |", flush=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if broken:
        raise typer.Exit(1)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench.limits")
