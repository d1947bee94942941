"""What every proxy under test is given, and what it gives back."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..accounting import tree
from ..processes import Cores, server, wait_until_serving
from ..scenarios import HOST

APP_ID = "6d3f2c1e-9c1d-4a57-8f0e-2b7a5c9d1e42"
INSTANCE_ID = "b1f7c0de-52aa-4c0b-9e63-7c1de0a95f18"
INSTANCE_INDEX = "0"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy runs: a directory of its own, its port, the backend behind it, the cores.

    With `tls` it serves HTTPS: a directory with `cert.pem`, `key.pem`, and both in `pair.pem`.
    """

    directory: Path
    port: int
    backend: int
    cores: Cores
    tls: Path | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that serves."""

    port: int
    process: subprocess.Popen[bytes]
    access_log: Path | None

    def data_plane(self) -> list[int]:
        """The processes whose CPU time is the cost of a request."""
        return tree(self.process.pid)

    def control_plane(self) -> list[int]:
        """The processes that do no request's work; reported apart."""
        return []


@contextmanager
def serving(
    argv: Sequence[str], place: Place, access_log: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a proxy on its core until the with block ends; begins when it answers."""
    output = place.directory / f"{place.directory.name}.out"
    with server(argv, place.cores.proxy, output, env) as process:
        wait_until_serving(process, place.port, HOST, output, https=place.tls is not None)
        yield Running(place.port, process, access_log)
