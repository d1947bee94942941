"""`python -m bench.tls`: what TLS and HTTP/2 cost, in this router and in its peers, with the same certificate.

Kinds of load, all for one small answer, each run pinned and interleaved as in `python -m bench`:

- `handshake`: TLS 1.3, a new connection and a full handshake each time; `resumed`: with a session ticket (openssl
  s_time)
- `https`: HTTP/1.1 over kept connections; `h2`: HTTP/2, 64 connections with one request at a time; `h2 x10`: 8 with
  ten; `h2 browser`: 64 with a browser's headers and a hundred different paths
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import trustme
import typer

from . import backend, machine
from .__main__ import known
from .accounting import cpu_of
from .errors import BenchError, Missing, find
from .processes import Cores, free_port, pinned
from .proxies import BASIS, PROXIES
from .proxies.base import Place, Running
from .scenarios import BROWSER_HEADERS, HOST, SMALL_BODY

DEFAULT_PROXIES = ["router", BASIS, "haproxy+log", "envoy+log"]
GRACE_SECONDS = 20.0

Count = tuple[int, float]
"""Requests or handshakes done, and seconds they took."""


def _output(argv: list[str], cores: Cores, seconds: float) -> str:
    done = subprocess.run(
        pinned(argv, cores.load), capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False
    )
    return done.stdout + done.stderr


def _handshakes(reuse: bool) -> Callable[[Running, Cores, int], Count]:
    def load(running: Running, cores: Cores, seconds: int) -> Count:
        kind = "-reuse" if reuse else "-new"
        program = find("openssl", "apt-get install openssl")
        argv = [program, "s_time", "-connect", f"127.0.0.1:{running.port}", kind, "-time", str(seconds), "-tls1_3"]
        said = _output([*argv, "-www", "/small"], cores, 2 * seconds)
        found = re.findall(r"(\d+) connections in (\d+) real seconds", said)
        if not found:
            raise BenchError(f"openssl s_time: {said.strip()[-300:]}")
        count, real = found[-1]
        return int(count), max(float(real), 1.0)

    return load


def _requests(connections: int, streams: int, *options: str, paths: int = 1) -> Callable[[Running, Cores, int], Count]:
    def load(running: Running, cores: Cores, seconds: int) -> Count:
        program = find("h2load", "apt-get install nghttp2-client")
        number = 12_000 * seconds
        argv = [program, "-n", str(number), "-c", str(connections), "-m", str(streams), "-t", "1", *options]
        targets = [
            f"https://127.0.0.1:{running.port}/small{f'?item={number}' * (paths > 1)}" for number in range(paths)
        ]
        said = _output([*argv, "-H", f":authority: {HOST}", *targets], cores, 60)
        found = re.search(r"finished in ([\d.]+)(m?s),.*?(\d+) succeeded, (\d+) failed", said, re.DOTALL)
        if found is None or int(found[4]):
            raise BenchError(f"h2load: {said.strip()[-400:]}")
        return int(found[3]), float(found[1]) / (1000 if found[2] == "ms" else 1)

    return load


_BROWSER = [option for name, value in BROWSER_HEADERS.items() for option in ("-H", f"{name.lower()}: {value}")]
KINDS: dict[str, Callable[[Running, Cores, int], Count]] = {
    "handshake": _handshakes(reuse=False),
    "resumed": _handshakes(reuse=True),
    "https": _requests(64, 1, "--h1"),
    "h2": _requests(64, 1),
    "h2 x10": _requests(8, 10),
    "h2 browser": _requests(64, 1, *_BROWSER, paths=100),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """One run: how many a second, CPU microseconds of the proxy each."""

    kind: str
    proxy: str
    rate: float
    user: float
    system: float


def certificate(folder: Path) -> Path:
    """An ECDSA P-256 certificate for all proxies."""
    folder.mkdir()
    leaf = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    (folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
    (folder / "cert.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    (folder / "pair.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return folder


def bench(names: list[str], kinds: list[str], rounds: int, seconds: int) -> list[Cost]:
    """Start everything, measure it, stop it."""
    cores = Cores.of_this_machine()
    costs: list[Cost] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-bench-")))
        pem = certificate(folder / "tls")
        port = stack.enter_context(backend.running(folder, {len(SMALL_BODY)}, cores))
        started: dict[str, Running] = {}
        for name in names:
            place = Place(folder / name, free_port(), port, cores, pem)
            place.directory.mkdir()
            try:
                started[name] = stack.enter_context(PROXIES[name].start(place))
            except Missing as missing:
                print(f"without {name}: {missing}", flush=True)
        for round in range(rounds + 1):  # the first one warms up
            for kind in kinds:
                for name, running in started.items():
                    before = cpu_of(running.data_plane())
                    count, took = KINDS[kind](running, cores, seconds if round else 1)
                    spent = cpu_of(running.data_plane()) - before
                    if round:
                        each = 1e6 / max(count, 1)
                        costs.append(Cost(kind, name, count / took, spent.user * each, spent.system * each))
    return costs


def report(costs: list[Cost]) -> str:
    """The table, as Markdown."""
    lines = [
        f"| load | proxy | a second | user µs | system µs | **CPU µs each** | **× {BASIS}** |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in dict.fromkeys(cost.kind for cost in costs):
        groups = {
            name: [c for c in costs if (c.kind, c.proxy) == (kind, name)] for name in {c.proxy: None for c in costs}
        }
        basis = median([c.user + c.system for c in groups[BASIS]]) if groups.get(BASIS) else 0.0
        for name, group in groups.items():
            total = median([c.user + c.system for c in group])
            lines.append(
                f"| {kind} | {name} | {median([c.rate for c in group]):,.0f} | {median([c.user for c in group]):.1f} "
                f"| {median([c.system for c in group]):.1f} | **{total:.1f}** "
                f"| {f'**{total / basis:.2f}**' if basis else ''} |"
            )
    return "\n".join(lines)


def main(
    proxy: Annotated[list[str], typer.Option(help=f"One of: {', '.join(PROXIES)}.")] = DEFAULT_PROXIES,
    kind: Annotated[list[str], typer.Option(help=f"One of: {', '.join(KINDS)}.")] = list(KINDS),  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Times each run is repeated.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, max=60, help="Length of a run, about.")] = 2,
) -> None:
    """Measure what TLS and HTTP/2 cost: this router and its peers, side by side."""
    for name in kind:
        if name not in KINDS:
            raise typer.BadParameter(f"no {name!r}; there are {', '.join(KINDS)}")
    try:
        costs = bench(known(PROXIES, proxy), kind, rounds, seconds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    facts = ", ".join(f"{name} {value}" for name, value in machine.facts().items())
    print(f"\n{facts}; TLS 1.3, ECDSA P-256; medians of {rounds} rounds.\n\n{report(costs)}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench.tls")
