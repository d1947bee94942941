"""A request to a route service that is a route of this router: handled in the worker, without a connection
(contract §10.6).

Two exchanges, back to back. To that of the client's request (`outer`) a `Hairpin` is the backend, and its `_Client` is
the frontend of a second one (`inner`), which sends the request through everything once more, as if it had come over
HTTPS from 127.0.0.1, with an access log record of its own. Heads are written and read anew on the way, so that they
obey the same rules as those on a wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from router.http.message import CHUNKED, NO_BODY, BadMessage, HeaderList
from router.http.request import BODY_EXPECTED, Recent
from router.http.response import STATUS_LINES
from router.proxy.exchange import Exchange
from router.proxy.failures import CLOSED, malformed

if TYPE_CHECKING:
    from router.http.errors import Answer
    from router.http.response import ResponseHead
    from router.proxy.frontend_h1 import FrontendH1
    from router.proxy.plane import Plane


class Hairpin:
    """The backend of the outer exchange. `under_way` holds all that are."""

    __slots__ = ("_client", "_plane", "exchange", "under_way")

    usable = True
    local = ""

    def __init__(self, plane: Plane, under_way: set[Hairpin]) -> None:
        self._plane = plane
        self._client = _Client(self)
        self.under_way = under_way
        self.exchange: Exchange | None = None

    def start(self, exchange: Exchange, body: bytes) -> None:
        """Send the request of `exchange`: its head, with what there is of its body."""
        self.exchange = exchange
        try:
            request = self._plane.parse_request(_head(exchange), Recent())
        except BadMessage as bad:
            exchange.attempt_failed(malformed(bad.reason), stale=False)
            return
        inner = self._client.exchange = Exchange(self._plane, cast("FrontendH1", self._client), request)
        self.under_way.add(self)
        if body:
            inner.request_body(body)
        if exchange.request_done and not inner.request_done:
            inner.request_complete(exchange.request_trailers)
        try:
            inner.start()
        except Exception as error:
            inner.crashed(error)

    def send_body(self, data: bytes) -> None:
        """Send bytes of the request's body."""
        if self._client.exchange is not None:
            self._client.exchange.request_body(data)

    def finish(self, trailers: HeaderList) -> None:
        """The request is complete, with these trailers."""
        inner = self._client.exchange
        if inner is not None and not inner.request_done:
            inner.request_complete(trailers)

    def abort(self) -> None:
        """The outer exchange is over before its time."""
        inner = self._client.exchange
        self.over()
        if inner is not None:
            inner.client_gone()

    def over(self) -> Exchange | None:
        """Part the two; gives the outer one, which still has to be told."""
        outer, self.exchange = self.exchange, None
        self._client.exchange = None
        self.under_way.discard(self)
        return outer

    def pause_reading(self) -> None:
        if self._client.exchange is not None:
            self._client.exchange.client_full()

    def resume_reading(self) -> None:
        if self._client.exchange is not None:
            self._client.exchange.client_drained()

    def check(self, now: float) -> None:
        """Called at every tick of the clock."""
        if self._client.exchange is not None:
            self._client.exchange.check(now)


class _Client:
    """The frontend of the inner exchange."""

    __slots__ = ("_hairpin", "exchange")

    peer = b"127.0.0.1:0"
    peer_ip = b"127.0.0.1"
    secure = True
    client_certificate = b""

    def __init__(self, hairpin: Hairpin) -> None:
        self._hairpin = hairpin
        self.exchange: Exchange | None = None

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response."""
        if self._hairpin.exchange is not None:
            self._hairpin.exchange.interim_head(head)

    def send_continue(self) -> None:
        """The outer exchange says so itself, as late as this one."""

    def open_tunnel(self, *_: object) -> None:
        raise AssertionError("a request to a route service of ours is passed on without its Upgrade")

    def send_head(self, head: ResponseHead, lines: bytes, data: bytes) -> None:
        """A response's head, with further header lines, and the first bytes of its body."""
        if head.length is not None:
            framing = b"Content-Length: %b\r\n" % head.length
        else:
            framing = b"Transfer-Encoding: chunked\r\n" if head.body != NO_BODY else b"Content-Length: 0\r\n"
        self._respond(b"".join((STATUS_LINES[head.status], head.text, lines, framing, b"\r\n")), data)

    def send_answer(self, answer: Answer, body: bytes) -> None:
        """A router-made response, whole."""
        self._respond(b"".join((STATUS_LINES[answer.status], answer.headers, b"\r\n")), body)

    def _respond(self, head: bytes, data: bytes) -> None:
        outer = self._hairpin.exchange
        if outer is None:
            return
        try:
            response = outer.plane.parse_response(head, outer.request.method)
        except BadMessage as bad:
            self._hairpin.abort()
            outer.attempt_failed(malformed(bad.reason), stale=False)
            return
        outer.response_head(response, data, False)

    def send_body(self, data: bytes) -> None:
        """Bytes of the response's body."""
        if self._hairpin.exchange is not None:
            self._hairpin.exchange.response_body(data)

    def finish(self, trailers: HeaderList) -> None:
        """The response is complete, with these trailers; the inner exchange is over."""
        outer = self._hairpin.over()
        if outer is not None:
            outer.response_complete(trailers)

    def next_request(self) -> None:
        """The inner exchange is over."""
        self.finish([])

    def abort(self) -> None:
        """What was sent must not pass for complete."""
        outer = self._hairpin.over()
        if outer is not None:
            outer.attempt_failed(CLOSED, stale=False)

    def pause_reading(self) -> None:
        if self._hairpin.exchange is not None:
            self._hairpin.exchange.backend_full()

    def resume_reading(self) -> None:
        if self._hairpin.exchange is not None:
            self._hairpin.exchange.backend_drained()


def _head(exchange: Exchange) -> bytes:
    """The request head as it would go over a wire."""
    assert exchange.service is not None
    request = exchange.service.request
    if request.body > 0:
        framing = b"Content-Length: %d\r\n" % request.body
    elif request.body == CHUNKED:
        framing = b"Transfer-Encoding: chunked\r\n"
    else:
        framing = b"Content-Length: 0\r\n" if request.method in BODY_EXPECTED else b""
    return b"".join(
        (
            b"%b HTTP/1.1\r\nHost: %b\r\n" % (request.line, request.raw_host),
            request.text,
            exchange.lines,
            framing,
            b"TE: trailers\r\n" if exchange.takes_trailers else b"",
            b"\r\n",
        )
    )
