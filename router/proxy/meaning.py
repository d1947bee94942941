"""What a request's header lines mean to the router, whatever its request line says.

The requests of one connection mostly bring the same header lines (`http.request.Recent`), so this is worked out once
for all of them. It holds as long as the worker's settings do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.http.forwarded import forwarded_proto
from router.http.headers import SIGNATURE
from router.http.instance import APP_INSTANCE, PROCESS_INSTANCE

if TYPE_CHECKING:
    from router.http.request import RequestHead
    from router.messages import WorkerSettings
    from router.proxy.frontend_h1 import FrontendH1
    from router.proxy.frontend_h2 import Stream
    from router.proxy.plane import Plane


class Meaning:
    """One block of header lines, from one client."""

    __slots__ = (
        "after_id",
        "before_id",
        "forwarded_for",
        "forwarded_proto",
        "log",
        "rare",
        "settings",
        "signed",
        "special",
        "sticky",
        "started",
    )

    def __init__(
        self, plane: Plane, frontend: FrontendH1 | Stream, request: RequestHead, returned: bool = False
    ) -> None:
        """`returned`: the request comes back from a route service, whose word is taken for the client's."""
        noted = request.noted
        client = frontend.peer_ip
        self.settings: WorkerSettings = plane.settings
        self.special = (
            not request.host
            or request.host == client
            or APP_INSTANCE in noted
            or PROCESS_INSTANCE in noted
            or (plane.health_agent is not None and noted.get(b"user-agent") == plane.health_agent)
        )
        """The request may be answered by the router itself, or by a part of a pool only."""
        self.rare = b"trailer" in noted or b"upgrade" in request.options
        """There is a promise of trailers, or a wish for another protocol."""
        self.signed = SIGNATURE in noted
        """It says to come from a route service."""
        self.sticky = plane.sticky.wish(noted[b"cookie"], request.header) if b"cookie" in noted else None
        """The instance that the client asks for by cookie (contract §4.7)."""
        sent = noted.get(b"x-forwarded-for")
        self.forwarded_for = b"%b, %b" % (sent, client) if sent else client
        self.forwarded_proto = (noted.get(b"x-forwarded-proto") if returned else None) or forwarded_proto(
            noted.get(b"x-forwarded-proto"), frontend.secure, plane.settings
        )
        self.started = noted.get(b"x-request-start") or b""
        """`X-Request-Start` as the client or a balancer before us set it."""
        self.before_id = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Request-Start: %b" % (
            self.forwarded_for,
            self.forwarded_proto,
            self.started,
        )
        """The router's lines for the backend's head (contract §5.3) up to the time of the request's start."""
        self.after_id = b"\r\n" + (plane.client_cert_line(noted, frontend, returned) if plane.client_cert_mode else b"")
        """Its lines from the end of the request id on."""
        self.log: tuple[bytes, bytes] | None = None
        """The parts of an access log line that are always the same, made by the access log on first use."""
