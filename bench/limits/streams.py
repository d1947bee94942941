"""Bodies of any size pass in constant memory, whichever side is slow, and arrive as they were sent."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BenchError
from ..scenarios import HOST
from .router import Row, forget_peak, peak_rss, router, rss, worker_of

MOST_GROWTH = 16 << 20
PIECE = 256 * 1024
PAUSE = 0.002
"""Seconds for which the slow side rests after each piece: some 100 MB/s, a fraction of what the fast side can do."""
PATIENCE = 120.0
_POOL = os.urandom(4 << 20)


def pieces(size: int) -> Iterator[memoryview]:
    """`size` bytes, no two neighbours alike."""
    pool = memoryview(_POOL)
    for number in range(size // PIECE):
        at = number * 4099 % (len(pool) - PIECE)
        yield pool[at : at + PIECE]


def send(sock: socket.socket, size: int, slow: bool) -> str:
    """Send a body; gives its hash."""
    digest = hashlib.sha1()
    for piece in pieces(size):
        sock.sendall(piece)
        digest.update(piece)
        if slow:
            time.sleep(PAUSE)
    return digest.hexdigest()


def receive(sock: socket.socket, size: int, slow: bool, first: bytes = b"") -> str:
    """Take a body in; gives its hash."""
    digest = hashlib.sha1(first)
    left, since = size - len(first), 0
    buffer = memoryview(bytearray(PIECE))
    while left:
        got = sock.recv_into(buffer, min(left, PIECE))
        if not got:
            raise BenchError(f"the stream ended {left:,} bytes early")
        digest.update(buffer[:got])
        left -= got
        since += got
        if slow and since >= PIECE:
            since = 0
            time.sleep(PAUSE)
    return digest.hexdigest()


def head_of(sock: socket.socket) -> tuple[bytes, bytes]:
    """A head, and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


@contextmanager
def backend(size: int, slow: Callable[[], bool]) -> Iterator[int]:
    """A server that takes bodies (and answers with their hash) or gives them (and notes theirs in the path's name)."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(sock: socket.socket) -> None:
        with sock:
            while True:
                head, rest = head_of(sock)
                if not head:
                    return
                if head.startswith(b"POST "):
                    digest = receive(sock, size, slow(), rest).encode()
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(digest), digest))
                elif head.startswith(b"GET /down "):
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                    send(sock, size, slow())
                else:
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            threading.Thread(target=_quietly, args=(serve, sock), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _quietly(serve: Callable[[socket.socket], None], sock: socket.socket) -> None:
    try:
        serve(sock)
    except (OSError, BenchError):
        pass  # the client sees what is missing


def client(port: int, size: int, up: bool, slow: bool) -> bool:
    """One body through the router: True if its hash is the same at both ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        if up:
            sock.sendall(f"POST /up HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode())
            sent = send(sock, size, slow)
            _, rest = head_of(sock)
            while len(rest) < len(sent) and (more := sock.recv(100)):
                rest += more
            return rest.decode() == sent
        sock.sendall(f"GET /down HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        head, rest = head_of(sock)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise BenchError(f"the stream was answered with {head[:200]!r}")
        digest = hashlib.sha1()
        for piece in pieces(size):
            digest.update(piece)
        return receive(sock, size, slow, rest) == digest.hexdigest()


def streams(directory: Path, size: int) -> Iterator[Row]:
    """A body up and down, with a slow peer on either side."""
    slow_backend = False
    with backend(size, lambda: slow_backend) as port, router(directory, [port]) as running:
        pid = worker_of(running)
        for up in (False, True):
            for slow_client in (True, False):
                slow_backend = not slow_client
                before = rss(pid)
                forget_peak(pid)
                began = time.perf_counter()
                same = client(running.port, size, up, slow_client)
                took = time.perf_counter() - began
                growth = peak_rss(pid) - before
                yield Row(
                    f"{size >> 20:,} MiB {'up' if up else 'down'}, slow {'client' if slow_client else 'backend'}",
                    f"same hash, RSS grows by less than {MOST_GROWTH >> 20} MiB",
                    f"{'same hash' if same else 'ANOTHER HASH'}, {growth / (1 << 20):.1f} MiB, "
                    f"{size / took / 1e6:,.0f} MB/s",
                    same and growth < MOST_GROWTH,
                )
