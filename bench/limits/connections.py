"""Thousands of clients that do little: slow heads, idle keep-alive, stalled readers. What they cost, who notices."""

import dataclasses
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import backend, load
from ..errors import BenchError
from ..processes import Cores
from ..scenarios import BROWSER_HEADERS, HOST, SCENARIOS
from .router import Row, router, rss, worker_of

SLOW, HEADER_SECONDS = 2000, 8
GOOD = dataclasses.replace(SCENARIOS["small"], connections=8)
LOAD_SECONDS = 4
IDLE, MOST_IDLE = 10_000, 6 * 1024
STALLED, STALLED_BYTES, MOST_STALLED = 200, 50 * 1024 * 1024, 128 * 1024
SETTLE = 3.0
"""Seconds until nothing moves any more: idle connections have forgotten, ticks have passed."""
PATIENCE = 30.0


def connect(port: int, receive_buffer: int = 0) -> socket.socket:
    """A client's socket."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", port))
    return sock


@contextmanager
def slow_heads(port: int, cores: frozenset[int]) -> Iterator[list[socket.socket]]:
    """`SLOW` connections that are opened within a second, and a byte of a header line a second on each.

    Until the end of the block; the list fills meanwhile. Clients know nothing of each other, so what they do is spread
    over the second: all at once it would hold up the load generator, which shares `cores` with them.
    """
    stop = threading.Event()
    socks: list[socket.socket] = []
    at_once = SLOW // 100

    def take_turn(number: int) -> None:
        if number < len(socks):
            socks[number].send(b"a")
        else:
            socks.append(connect(port))
            socks[-1].sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ".encode())

    def attack() -> None:
        os.sched_setaffinity(threading.get_native_id(), cores)
        while not stop.is_set():
            for start in range(0, SLOW, at_once):
                for number in range(start, start + at_once):
                    try:
                        take_turn(number)
                    except OSError:
                        pass  # cut by the router
                stop.wait(at_once / SLOW)

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        yield socks
    finally:
        stop.set()
        thread.join()
        for sock in socks:
            sock.close()


def until_cut(socks: Sequence[socket.socket], seconds: float) -> int:
    """How many of the connections the router closes within the time."""
    selector = selectors.DefaultSelector()
    for sock in socks:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    deadline, cut = time.monotonic() + seconds, 0
    while cut < len(socks) and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            try:
                ended = not socket.socket.recv(key.fileobj, 4096)  # type: ignore[arg-type]
            except OSError:
                ended = True
            if ended:
                selector.unregister(key.fileobj)
                cut += 1
    selector.close()
    return cut


def slowloris(directory: Path) -> Iterator[Row]:
    """Connections whose heads never end, beside good traffic."""
    cores = Cores.of_this_machine()
    with (
        backend.running(directory, [], cores) as port,
        router(directory, [port], read_header_timeout=f"{HEADER_SECONDS}s") as running,
    ):
        load.run(GOOD, running.port, 1, cores.load)
        quiet = load.run(GOOD, running.port, LOAD_SECONDS, cores.load)
        began = time.monotonic()
        with slow_heads(running.port, cores.load) as socks:
            opening = load.run(GOOD, running.port, 1, cores.load)
            while len(socks) < SLOW:
                time.sleep(0.01)
            busy = load.run(GOOD, running.port, LOAD_SECONDS, cores.load)
            cut = until_cut(socks, HEADER_SECONDS * 2 - (time.monotonic() - began))
        took = time.monotonic() - began
    ratio = busy.p99_us / quiet.p99_us
    yield Row(
        f"{SLOW:,} slow heads, good traffic's p99",
        "under 2× the quiet one",
        f"{ratio:.2f}× ({busy.p99_us / 1000:.2f} ms, quiet {quiet.p99_us / 1000:.2f} ms;"
        f" {opening.p99_us / 1000:.2f} ms in the second in which they come)",
        ratio < 2 and not any((*opening.errors.values(), *busy.errors.values())),
    )
    yield Row(
        f"{SLOW:,} slow heads, time-out {HEADER_SECONDS} s",
        "all cut at the time-out",
        f"{cut:,} cut after {took:.1f} s",
        cut == SLOW,
    )


def ask(sock: socket.socket, request: bytes, end: bytes) -> None:
    """One request, and its answer up to `end`."""
    sock.sendall(request)
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        if not piece:
            raise BenchError("the router closed a connection that should have been kept")
        data += piece


def idle(directory: Path) -> Iterator[Row]:
    """Clients that have had an answer and keep their connections."""
    cores = Cores.of_this_machine()
    lines = "".join(f"{name}: {value}\r\n" for name, value in BROWSER_HEADERS.items())
    kinds = {"few headers": "", "browser headers": lines}
    for kind, more in kinds.items():
        place = directory / kind.replace(" ", "-")
        place.mkdir()
        request = f"GET /small HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n".encode()
        with backend.running(place, [], cores) as port, router(place, [port]) as running:
            pid = worker_of(running)
            with connect(running.port) as sock:
                for _ in range(2000):
                    ask(sock, request, b"Hello, world\n")
            time.sleep(SETTLE)
            before = rss(pid)
            socks = []
            for _ in range(IDLE):
                socks.append(connect(running.port))
                ask(socks[-1], request, b"Hello, world\n")
            time.sleep(SETTLE)
            each = (rss(pid) - before) / IDLE
            for sock in socks:
                sock.close()
        yield Row(
            f"{IDLE:,} idle keep-alive clients, {kind}",
            f"at most {MOST_IDLE / 1024:.0f} KiB each",
            f"{each / 1024:.2f} KiB each",
            each <= MOST_IDLE,
        )


def stalled(directory: Path) -> Iterator[Row]:
    """Clients that ask for much and read nothing."""
    cores = Cores.of_this_machine()
    with backend.running(directory, [STALLED_BYTES], cores) as port, router(directory, [port]) as running:
        pid = worker_of(running)
        request = f"GET /bytes/{STALLED_BYTES} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        with connect(running.port) as sock:
            for _ in range(500):
                ask(sock, f"GET /small HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), b"Hello, world\n")
        time.sleep(SETTLE)
        before = rss(pid)
        socks = [connect(running.port, 8192) for _ in range(STALLED)]
        for sock in socks:
            sock.sendall(request)
        time.sleep(SETTLE)
        each = (rss(pid) - before) / STALLED
        for sock in socks:
            sock.close()
    yield Row(
        f"{STALLED} stalled readers of {STALLED_BYTES >> 20} MiB",
        f"at most {MOST_STALLED >> 10} KiB each",
        f"{each / 1024:.1f} KiB each",
        each <= MOST_STALLED,
    )
