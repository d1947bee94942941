"""What the event loop's TLS lacks, added where it makes its `SSLObject`: alerts on our side, resumption on the other.

- The event loop asks an `SSLObject` once for the methods that it calls for every record. `Direct` gives it those of the
  object in C that `SSLObject` wraps.
- A handshake that fails leaves an alert in the outgoing buffer, and the event loop closes without sending it. `Telling`
  claims to want more first: the loop then sends what waits. The connection ends with its next event: the client closes,
  as it should after an alert, or sends more; or the time for a handshake is over.
- Neither asyncio nor uvloop lets a client say which session it would like to resume. Both begin the handshake in the
  context (`contextvars`) of who connects, so it is said there.
"""

from __future__ import annotations

import ssl
from contextvars import ContextVar
from typing import Any

PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 50\r\n"
    b"Connection: close\r\n\r\n400 Bad Request: plain HTTP sent to an HTTPS port\n"
)


class Direct(ssl.SSLObject):
    """Either side of a connection: records come and go without a call in between."""

    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> Direct:
        made: Direct = super()._create(incoming, outgoing, **options)  # type: ignore[misc]
        made._incoming, made._outgoing = incoming, outgoing
        wrapped = made._sslobj  # type: ignore[attr-defined]
        vars(made).update(read=wrapped.read, write=wrapped.write, pending=wrapped.pending)
        return made


class Telling(Direct):
    """The server's side of a connection: a client that is refused is told why (RFC 8446 §6.2)."""

    _failed: ssl.SSLError | None = None
    _hello: bytes | None = b""

    def take_hello(self) -> bytes:
        """What the client has sent, up to and with its ClientHello; empty if it was taken already."""
        hello, self._hello = self._hello, None
        return hello or b""

    def do_handshake(self) -> None:
        """As always, but a failure is raised at the next call only if there is something to be sent first."""
        if self._failed is not None:
            raise self._failed
        if self._hello is not None:
            came = self._incoming.read()
            self._incoming.write(came)
            self._hello += came
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                self._outgoing.write(PLAIN_HTTP)
            if not self._outgoing.pending:
                raise
            self._failed = error
            raise ssl.SSLWantReadError(*error.args) from error


OFFERED: ContextVar[ssl.SSLSession | None] = ContextVar("offered", default=None)
"""The session that connections made in this context want to resume; one of their own SSLContext."""


class Resuming(ssl.SSLContext):
    """A client's context that resumes the session `OFFERED`."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As always, with that session."""
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or OFFERED.get())
