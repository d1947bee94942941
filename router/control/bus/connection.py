"""One connection to NATS: nats-py's, with a short way for the messages that come by the hundred thousand.

nats-py makes an object of every message, puts it into a queue and wakes a task for it, which costs more than to read
the registration in it (docs/decisions/0012-short-way-for-registrations.md). So its parser is replaced by one that
takes frames of chosen subscriptions out of the bytes as they come, and leaves everything else to nats-py: the
handshake, other messages, reconnection. What that rests on of nats-py's insides is in this file and nowhere else;
`tests/control/bus` would show a version that changes it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError
from nats.errors import StaleConnectionError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from router.config.nkey import NkeyError, check_credentials

Take = Callable[[float, list[tuple[int, bytes]]], None]
"""Gets the monotonic second at which messages were read, and each message's subscription and payload."""

_MSG = b"MSG "
_CRLF = b"\r\n"
_MOST_LINES = 4096


class Connection(Client):
    """A client of nats-py whose `direct` subscriptions hand their messages to `take` in the order in which they came.

    `tls` makes the context for each new connection, so that renewed certificates are in force with the next one; with
    it no word is said to a server that offers no TLS.
    """

    def __init__(self, take: Take, *, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        super().__init__()
        self._take = take
        self._tls = tls
        self.direct: set[int] = set()
        """Numbers of subscriptions that go the short way."""
        self._ps = _Skimmer(self, take)

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Asked for whenever a server is to be spoken to by TLS."""
        if self._tls is None:
            return super().ssl_context
        try:
            return self._tls()
        except Exception as error:  # a file may be half written just now; nats-py goes on trying after its own errors
            raise NatsError(str(error)) from error

    def next_is_direct(self) -> int:
        """The next subscription that is made goes the short way: its number."""
        self.direct.add(number := self._sid + 1)
        return number

    async def _process_op_err(self, e: Exception) -> None:
        """The connection has failed. A server that answers no ping does not answer a goodbye either."""
        if isinstance(e, StaleConnectionError) and isinstance(self._transport, TcpTransport):
            writer = self._transport._io_writer
            if writer is not None:
                writer.transport.abort()
        await super()._process_op_err(e)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """nats-py's own parser has a message: one that stood behind something that it had to read itself."""
        if sid in self.direct:
            self._take(time.monotonic(), [(sid, data)])
        else:
            await super()._process_msg(sid, subject, reply, data, headers)

    def _connect_command(self) -> bytes:
        """Called when encryption, if there is to be any, is in force; the answer carries the password."""
        if self._tls is not None and not self._server_info.get("tls_required"):
            raise NatsError("the server offers no TLS; `nats.tls_enabled` demands it")
        # The file may have changed for the worse, and nats-py goes on trying after nothing but its own errors.
        if self._user_credentials is not None:
            try:
                check_credentials(str(self._user_credentials))
            except NkeyError as error:
                raise NatsError(f"nats.credentials: {error}") from error
        return super()._connect_command()


class _Skimmer(Parser):
    """nats-py's parser, which sees only what is not taken out before."""

    def __init__(self, connection: Connection, take: Take) -> None:
        super().__init__(connection)
        self._connection = connection
        self._take = take
        self._lines: dict[bytes, tuple[int, int]] = {}
        """Control line → subscription and size: few are new."""

    def reset(self) -> None:
        super().reset()
        self._lines = {}  # the next connection may number its subscriptions otherwise

    async def parse(self, data: bytes = b"") -> None:
        if self.state != AWAITING_CONTROL_LINE:
            # The rest of a message for nats-py comes first.
            missing = self.needed + len(_CRLF) - len(self.buf)
            await super().parse(data[:missing])
            data = data[missing:]
        while data:
            if self.buf:
                data = bytes(self.buf) + data
                self.buf.clear()
            found: list[tuple[int, bytes]] = []
            at = self._skim(data, found)
            if found:
                self._take(time.monotonic(), found)
            data = data[at:]
            if not data:
                return
            size = self._size(data)
            if size == 0 or (size > len(data) and self._is_direct(data)):
                self.buf.extend(data)
                return
            await super().parse(data[:size])
            data = data[size:]

    def _skim(self, data: bytes, found: list[tuple[int, bytes]]) -> int:
        """Take whole direct messages from the beginning of `data`; gives where they end."""
        at, end_of_data = 0, len(data)
        find, known, add = data.find, self._lines.get, found.append
        while True:
            end = find(_CRLF, at)
            if end < 0:
                return at
            line = data[at:end]
            entry = known(line) or self._learn(line)
            if entry is None:
                return at
            begin = end + 2
            end = begin + entry[1]
            if end + 2 > end_of_data:
                return at
            add((entry[0], data[begin:end]))
            at = end + 2

    def _learn(self, line: bytes) -> tuple[int, int] | None:
        """Subscription and size, if this is the control line of a direct message."""
        fields = line.split()
        if not line.startswith(_MSG) or not 4 <= len(fields) <= 5:
            return None
        try:
            sid, size = int(fields[2]), int(fields[-1])
        except ValueError:
            return None
        if sid not in self._connection.direct:
            return None
        if len(self._lines) >= _MOST_LINES:
            self._lines.clear()
        self._lines[line] = sid, size
        return sid, size

    def _is_direct(self, data: bytes) -> bool:
        line, _, _ = data.partition(_CRLF)
        return line in self._lines

    def _size(self, data: bytes) -> int:
        """Bytes of the frame at the beginning of `data`, its payload included; 0 = its line has not all come."""
        end = data.find(_CRLF)
        if end < 0:
            return 0
        line = data[:end]
        size = end + len(_CRLF)
        if line[:4] == _MSG or line[:5] == b"HMSG ":
            try:
                size += int(line.split()[-1]) + len(_CRLF)
            except (ValueError, IndexError):
                pass  # nats-py says what is wrong with it
        return size
