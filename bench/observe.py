"""`python -m bench.observe`: what it costs to see everything. Is it true: `bench.exact`; many apps: `bench.apps`.

CPU per request of a worker. In each round three routers are started anew, as one process is not like the other, and
loaded by turns, in another order each time, as the machine is not as fast at one time as at another; they are:
- nothing is written down: no access log, no times of look-ups, and accounting patched out, which no configuration does;
- the default: histograms and accounts, access log with the contract's line and no further field;
- everything: access log with every extra field, a histogram for each app, and somebody who scrapes and looks at the
  dashboard twice a second.
"""

import argparse
import base64
import http.client
import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from . import backend
from .errors import BenchError
from .measure import cost
from .processes import Cores, free_port, server, wait_until_serving
from .proxies.base import Place
from .proxies.router import ROOT, RunningRouter, config
from .scenarios import HOST, SCENARIOS
from .turns import by_turns

NOTHING = """\
import sys
if any("worker" in word for word in sys.orig_argv):
    from router.proxy.accounting import Accounting

    Accounting.add = lambda self, exchange: None
"""
"""A `sitecustomize.py` for workers: no accounting at all, which no configuration gives."""
SMALL = SCENARIOS["small"]
KINDS = ("nothing", "default", "everything")
TURNS = 10
"""Of each router in a round."""
BASIC = {"Authorization": f"Basic {base64.b64encode(b'bench:bench').decode()}"}
"""Who may look at the status server."""
FIELDS = [
    "backend_time",
    "dial_time",
    "dns_time",
    "failed_attempts",
    "failed_attempts_time",
    "local_address",
    "tls_time",
]


def settings(
    place: Place, routes: list[dict[str, Any]], *, everything: bool, nothing: bool = True, workers: int = 1
) -> dict[str, Any]:
    """A configuration with all of it, with none, or, neither `everything` nor `nothing`, the default."""
    made = {**config(place, 0, place.directory / "access.log"), "nats": None, "routes": routes, "workers": workers}
    if everything:
        made["logging"] = {"level": "info", "extra_access_log_fields": FIELDS}
        made["per_app_prometheus_http_metrics_reporting"] = True
    elif nothing:
        del made["access_log"]
        made["per_request_metrics_reporting"] = False
    return made


@contextmanager
def running(place: Place, made: dict[str, Any], host: str, *, nothing: bool = False) -> Iterator[RunningRouter]:
    """The router with this configuration."""
    path = place.directory / "router.yml"
    path.write_text(json.dumps(made))
    output = place.directory / "router.out"
    environment = {"PYTHONPATH": str(ROOT)}
    if nothing:
        (place.directory / "sitecustomize.py").write_text(NOTHING)
        environment["PYTHONPATH"] = f"{place.directory}:{ROOT}"
    argv = [sys.executable, "-m", "router.cli.main", "-c", str(path)]
    with server(argv, place.cores.proxy, output, environment) as process:
        wait_until_serving(process, place.port, host, output)
        log = place.directory / "access.log" if "access_log" in made else None
        yield RunningRouter(place.port, process, log)


class Watcher(threading.Thread):
    """Somebody with a dashboard open, and a Prometheus that scrapes every second."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._done = threading.Event()
        self.scrapes = 0

    def run(self) -> None:
        stream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        stream.request("GET", "/api/stream", headers=BASIC)
        events = stream.getresponse()
        while not self._done.wait(0.5):
            events.read1(1 << 20)
            scrape = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            scrape.request("GET", "/metrics", headers=BASIC)
            self.scrapes += len(scrape.getresponse().read()) > 0
            scrape.close()
        stream.close()

    def stop(self) -> None:
        self._done.set()
        self.join(5)


def overhead(rounds: int, seconds: int) -> None:
    """Print CPU per request without, with the default and with everything."""
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, backend.running(Path(folder), [], cores) as behind:
        found = by_turns(
            KINDS,
            lambda stack, name: _start(stack, Path(tempfile.mkdtemp(dir=folder)), name, behind, cores),
            lambda name, started: _cost(name, *started, seconds, cores),
            rounds,
            TURNS,
        )
    nothing = found["nothing"]
    for name, costs in found.items():
        turns = statistics.median(cost / base for cost, base in zip(costs, nothing, strict=True))
        over = (statistics.median(costs) / statistics.median(nothing), min(costs) / min(nothing), turns)
        print(f"{name:10}  {' '.join(f'{each:.1f}' for each in costs)}")
        print(
            f"{name:10}  median of {len(costs)}: {statistics.median(costs):.1f} µs, least {min(costs):.1f};"
            " over nothing {:+.1%} by medians, {:+.1%} by the least, {:+.1%} turn by turn".format(
                *(x - 1 for x in over)
            )
        )


def _start(stack: ExitStack, directory: Path, name: str, behind: int, cores: Cores) -> tuple[RunningRouter, int]:
    """A router, warmed up, and the port of its status server."""
    place = Place(directory, free_port(), behind, cores)
    endpoint = {"host": "127.0.0.1", "port": behind, "app": "bench"}
    routes = [{"name": "bench", "uris": [HOST], "endpoints": [endpoint]}]
    nothing = name == "nothing"
    made = settings(place, routes, everything=name == "everything", nothing=nothing)
    router = stack.enter_context(running(place, made, HOST, nothing=nothing))
    cost(router, SMALL, 1, cores)
    return router, made["status"]["port"]


def _cost(name: str, router: RunningRouter, status: int, seconds: int, cores: Cores) -> float:
    """Microseconds of a request, under load, with somebody looking on where everything is on."""
    if name != "everything":
        return cost(router, SMALL, seconds, cores)
    watcher = Watcher(status)
    watcher.start()
    try:
        spent = cost(router, SMALL, seconds, cores)
    finally:
        watcher.stop()
    assert watcher.scrapes, "nobody looked on"
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.observe", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=1)
    given = parser.parse_args()
    try:
        overhead(given.rounds, given.seconds)
    except BenchError as error:
        raise SystemExit(f"bench.observe: {error}") from error


if __name__ == "__main__":
    main()
