"""Who this router says it is on the bus (contract §2.2)."""

from __future__ import annotations

import socket
import uuid

import msgspec

from router.messages import StartMessage

_SOMEWHERE_PUBLIC = "198.41.0.4"  # a root name server, as in 2011; nothing is sent there

_encode = msgspec.json.encode


class Identity:
    """The router's id and address, and the start message made of them."""

    def __init__(self, index: int, ip: str, register_interval: float, prune_threshold: float) -> None:
        """Intervals are seconds and go out as whole seconds."""
        self.id = f"{index}-{uuid.uuid4()}"
        self.ip = ip
        self._message = StartMessage(self.id, [ip], int(register_interval), int(prune_threshold))

    @property
    def start_message(self) -> bytes:
        """Payload of `router.start` and of the reply to `router.greet`."""
        return _encode(self._message)


def local_ip(target: str | None = None) -> str:
    """The address that others reach this host by: the source address towards `target` (contract §13.2 `local_route`).

    Connecting a UDP socket sends nothing. A host without a route there has only its loopback address.
    """
    family = socket.AF_INET6 if target and ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target or _SOMEWHERE_PUBLIC, 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
