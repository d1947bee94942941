"""Clients that have ended their side of the connection while a request of theirs is in flight (docs/decisions/0013).

Some only say that they send no more, and wait for the answer; most have left. TCP does not tell the two apart until
something is sent: who has left answers with a reset. So after a moment an HTTP/1.1 client is sent a `100 Continue`,
which every client must be ready to skip (RFC 9110 §15.2). The event loop looks no more at a connection from which
nothing is to be read; resets are therefore watched for here.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.proxy.frontend_h1 import FrontendH1

MOMENT = 0.05
"""Seconds after its end in which an answer that begins makes the question needless."""
SILENCE = 1.0
"""Seconds without a byte of the answer after which a client that can't be asked is taken to have left."""


class HalfClosed:
    """All such clients of a worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._clients: dict[int, Ended] = {}

    def add(self, frontend: FrontendH1) -> Ended:
        """Watch over a client whose end has come, until `forget`."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._resets)
        ended = Ended(frontend, frontend.transport.get_extra_info("socket").fileno())
        self._clients[ended.fd] = ended
        self._epoll.register(ended.fd, 0)  # of errors, and of the end of both sides, it tells unasked
        self._loop.call_later(MOMENT, ended.ask)
        return ended

    def forget(self, ended: Ended) -> None:
        """The connection is gone. Its descriptor may be closed already, and be that of another connection."""
        if self._clients.get(ended.fd) is ended:
            del self._clients[ended.fd]
            assert self._epoll is not None
            try:
                self._epoll.unregister(ended.fd)
            except OSError:
                pass

    def _resets(self) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0):
            self._clients[fd].frontend.transport.abort()

    def close(self) -> None:
        """The worker stops."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._clients.clear()


class Ended:
    """A client that sends no more."""

    __slots__ = ("_asked", "_seen", "_since", "fd", "frontend")

    def __init__(self, frontend: FrontendH1, fd: int) -> None:
        self.frontend = frontend
        self.fd = fd
        self._asked = False
        self._seen = -1
        self._since = 0.0

    def ask(self) -> None:
        """Have it show whether it is there, if no answer has begun and it knows HTTP/1.1."""
        frontend = self.frontend
        exchange = frontend.exchange
        if exchange is not None and not exchange.responding and exchange.request.version == b"1.1":
            self._asked = True
            frontend.send_continue()

    def check(self, now: float) -> None:
        """Called at every tick of the clock."""
        exchange = self.frontend.exchange
        if self._asked or exchange is None:
            return
        if exchange.bytes_out != self._seen or self.frontend.transport.get_write_buffer_size():
            self._seen, self._since = exchange.bytes_out, now
        elif now - self._since >= SILENCE:
            self.frontend.transport.abort()
