"""The backend of every proxy: nginx, one worker, keep-alive without end, no log.

`/small` and `/bytes/N` are what is measured. `/seen` answers with the request headers that reached it, one a
line, which is how the bench knows what a proxy really sent.
"""

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import nginx
from .processes import Cores, free_port, server, wait_until_serving
from .scenarios import HOST, SMALL_BODY

SEEN = (
    "Host",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Request-Start",
    "X-Vcap-Request-Id",
    "X-CF-ApplicationID",
    "X-CF-InstanceID",
    "X-CF-InstanceIndex",
)

SERVER = """
  access_log off;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=16 inactive=1h;
  open_file_cache_valid 1h;
  default_type text/plain;
  server {{
    listen {address}:{port} backlog=1024;
    allow 127.0.0.0/8;
    deny all;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_buffer_size 64k;
    location = /small {{ return 200 "{small}"; }}
    location = /seen {{ return 200 "{seen}"; }}
    location /bytes/ {{ root {root}; }}
  }}
"""


def described(port: int, root: Path, address: str = "127.0.0.1", seen: str = "") -> str:
    """The backend's part of an nginx configuration; `seen` is what `/seen` answers."""
    small = SMALL_BODY.decode().replace("\n", "\\n")
    return SERVER.format(address=address, port=port, small=small, seen=seen, root=root)


@contextmanager
def running(directory: Path, sizes: Iterable[int], cores: Cores) -> Iterator[int]:
    """Run the backend with a file for each size; gives its port."""
    with process(directory, sizes, cores) as (_, port):
        yield port


@contextmanager
def process(
    directory: Path, sizes: Iterable[int], cores: Cores, connections: int = 4096, address: str = "127.0.0.1"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """As `running`; gives the process as well, which leads a group of its own.

    With the address 0.0.0.0 it answers at every address of the loopback network, and refuses all others.
    """
    files = directory / "bytes"
    files.mkdir(parents=True)
    for size in sizes:
        (files / str(size)).write_bytes(b"x" * size)
    port = free_port()
    seen = "\\n".join(f"{name}: $http_{name.lower().replace('-', '_')}" for name in SEEN)
    text = described(port, directory, address, seen)
    output = directory / "backend.out"
    with server(nginx.command(directory, text, connections), cores.load, output) as started:
        wait_until_serving(started, port, HOST, output)
        yield started, port
