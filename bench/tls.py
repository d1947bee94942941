"""`python -m bench.tls`: what TLS and HTTP/2 cost, in this router and in its peers, with the same certificate.

Kinds of load, all for one small answer:

- `handshake`: TLS 1.3, a new connection and a full handshake each time; `resumed`: with a session ticket (openssl
  s_time)
- `https`: HTTP/1.1 over kept connections; `h2`: HTTP/2, 64 connections with one request at a time; `h2 x10`: 8 with
  ten; `h2 browser`: 64 with a browser's headers and a hundred different paths (h2load)

The same rules for every proxy:

- The client offers one cipher suite, `SUITE`: left to themselves, some proxies take AES-256 and others AES-128.
- A run is measured after a second of the same load. Connections that are kept are made, and their handshakes done, in
  that second: of kept connections only requests count, and the CPU time between the first and the last of them. Where
  it begins and ends, h2load says while it runs.
- All proxies are up the whole time. A round measures each kind with each proxy, in an order that moves on by one in
  every round. What else the machine does meanwhile hits all alike; the least of the rounds was hit by the least.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Annotated

import trustme
import typer

from . import backend, machine
from .__main__ import known
from .accounting import Cpu, cpu_of
from .errors import BenchError, Missing, find
from .processes import Cores, free_port, pinned
from .proxies import BASIS, PROXIES
from .proxies.base import Place, Running
from .scenarios import BROWSER_HEADERS, HOST, SMALL_BODY

DEFAULT_PROXIES = ["router", BASIS, "haproxy+log", "envoy+log"]
SUITE = "TLS_AES_128_GCM_SHA256"
WARM_UP_SECONDS = 1
GRACE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run: requests or handshakes done, the seconds they took, the proxy's CPU time meanwhile."""

    count: int
    seconds: float
    cpu: Cpu

    def each(self, seconds: float) -> float:
        """Microseconds a request or handshake."""
        return seconds * 1e6 / max(self.count, 1)


Load = Callable[[Running, Cores, int], Run]


def _handshakes(reuse: bool) -> Load:
    def load(running: Running, cores: Cores, seconds: int) -> Run:
        _s_time(running, cores, WARM_UP_SECONDS, reuse)
        before = cpu_of(running.data_plane())
        count, took = _s_time(running, cores, seconds, reuse)
        return Run(count, took, cpu_of(running.data_plane()) - before)

    return load


def _s_time(running: Running, cores: Cores, seconds: int, reuse: bool) -> tuple[int, float]:
    """Shake hands for some seconds; how many times, and in which time."""
    program = find("openssl", "apt-get install openssl")
    argv = [program, "s_time", "-connect", f"127.0.0.1:{running.port}", "-reuse" if reuse else "-new", "-tls1_3"]
    done = subprocess.run(
        pinned([*argv, "-ciphersuites", SUITE, "-time", str(seconds), "-www", "/small"], cores.load),
        capture_output=True,
        text=True,
        timeout=2 * seconds + GRACE_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    found = re.findall(r"(\d+) connections in (\d+) real seconds", said)
    if not found:
        raise BenchError(f"openssl s_time: {said.strip()[-300:]}")
    count, real = found[-1]
    return int(count), max(float(real), 1.0)


def _requests(connections: int, streams: int, *options: str, paths: int = 1) -> Load:
    def load(running: Running, cores: Cores, seconds: int) -> Run:
        program = find("h2load", "apt-get install nghttp2-client")
        argv = [program, "-D", str(seconds), f"--warm-up-time={WARM_UP_SECONDS}", "-t", "1", *options]
        argv.append(f"--tls13-ciphers={SUITE}")
        argv += ["-c", str(connections), "-m", str(streams), "-H", f":authority: {HOST}"]
        argv += [f"https://127.0.0.1:{running.port}/small{f'?item={number}' * (paths > 1)}" for number in range(paths)]
        with subprocess.Popen(
            pinned(argv, cores.load), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            late = Timer(WARM_UP_SECONDS + seconds + GRACE_SECONDS, process.kill)
            late.start()
            try:
                assert process.stdout is not None
                return heard(process.stdout, seconds, lambda: cpu_of(running.data_plane()))
            finally:
                late.cancel()

    return load


def heard(lines: Iterable[str], seconds: int, cpu: Callable[[], Cpu]) -> Run:
    """What h2load measured in those seconds, and the CPU time spent between their beginning and their end."""
    marks: list[Cpu] = []
    said: list[str] = []
    for line in lines:
        if line.startswith("Main benchmark duration is "):  # "started", "over"
            marks.append(cpu())
        said.append(line)
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", "".join(said))
    if found is None or len(marks) != 2 or any(map(int, found.groups()[1:])):
        raise BenchError(f"h2load: {''.join(said).strip()[-400:]}")
    return Run(int(found[1]), seconds, marks[1] - marks[0])


_BROWSER = [option for name, value in BROWSER_HEADERS.items() for option in ("-H", f"{name.lower()}: {value}")]
KINDS: dict[str, Load] = {
    "handshake": _handshakes(reuse=False),
    "resumed": _handshakes(reuse=True),
    "https": _requests(64, 1, "--h1"),
    "h2": _requests(64, 1),
    "h2 x10": _requests(8, 10),
    "h2 browser": _requests(64, 1, *_BROWSER, paths=100),
}


def certificate(folder: Path) -> Path:
    """An ECDSA P-256 certificate for all proxies."""
    folder.mkdir()
    leaf = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    (folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
    (folder / "cert.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    (folder / "pair.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return folder


Runs = dict[tuple[str, str], list[Run]]
"""The runs of a kind of load and a proxy."""


def bench(names: list[str], kinds: list[str], rounds: int, seconds: int) -> Runs:
    """Start everything, measure it, stop it."""
    cores = Cores.of_this_machine()
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
        runs: Runs = {(kind, name): [] for kind in kinds for name in started}
        for number in range(rounds):
            for kind in kinds:
                for name in rotated(list(started), number):
                    runs[kind, name].append(KINDS[kind](started[name], cores, seconds))
    return runs


def rotated(names: Sequence[str], number: int) -> list[str]:
    """The names in the order of a round."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def report(runs: Runs) -> str:
    """The table, as Markdown."""
    lines = [
        f"| load | proxy | a second | user µs | system µs | **CPU µs each** | **× {BASIS}** | least | × |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    totals = {key: [run.each(run.cpu.total) for run in group] for key, group in runs.items()}
    for (kind, name), group in runs.items():
        of, basis = totals[kind, name], totals.get((kind, BASIS))
        lines.append(
            f"| {kind} | {name} | {median([run.count / run.seconds for run in group]):,.0f} "
            f"| {median([run.each(run.cpu.user) for run in group]):.1f} "
            f"| {median([run.each(run.cpu.system) for run in group]):.1f} | **{median(of):.1f}** "
            f"| {f'**{median(of) / median(basis):.2f}**' if basis else ''} "
            f"| {min(of):.1f} | {f'{min(of) / min(basis):.2f}' if basis else ''} |"
        )
    return "\n".join(lines)


def main(
    proxy: Annotated[list[str], typer.Option(help=f"One of: {', '.join(PROXIES)}.")] = DEFAULT_PROXIES,
    kind: Annotated[list[str], typer.Option(help=f"One of: {', '.join(KINDS)}.")] = list(KINDS),  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Times each run is repeated.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, max=60, help="Length of a run.")] = 2,
) -> None:
    """Measure what TLS and HTTP/2 cost: this router and its peers, side by side."""
    for name in kind:
        if name not in KINDS:
            raise typer.BadParameter(f"no {name!r}; there are {', '.join(KINDS)}")
    try:
        runs = bench(known(PROXIES, proxy), kind, rounds, seconds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    facts = ", ".join(f"{name} {value}" for name, value in machine.facts().items())
    print(f"\n{facts}; TLS 1.3, {SUITE}, ECDSA P-256; medians of {rounds} rounds, and the least.\n\n{report(runs)}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench.tls")
