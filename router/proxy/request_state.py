"""What is known of a request on its way, and the answers that the router gives to it by itself.

All the state of an exchange stands here, so that it is set up in one go; `proxy.attempts` and `proxy.exchange` say what
becomes of it.
"""

from __future__ import annotations

import asyncio
from time import time_ns
from typing import TYPE_CHECKING, Any

from router.balance.sticky import Wish
from router.http import errors
from router.http.error_page import Look
from router.http.message import NO_BODY, NO_TRAILERS, HeaderList
from router.http.request import RequestHead
from router.http.trace import Trace
from router.observe.counters import Counter
from router.proxy.failures import IDEMPOTENT
from router.proxy.meaning import Meaning

if TYPE_CHECKING:
    from router.proxy.connections import Backend, Steps
    from router.proxy.dialling import Place
    from router.proxy.frontend_h1 import FrontendH1
    from router.proxy.frontend_h2 import Stream
    from router.proxy.hedge import Hedge
    from router.proxy.plane import Plane
    from router.proxy.route_services import Leg
    from router.table.endpoint import Endpoint
    from router.table.pool import Pool


class RequestState:
    """A request, who sent it, where it is to go, and how far it got."""

    __slots__ = (
        "_began",
        "_counted",
        "_dialling",
        "_finished",
        "_fresh",
        "_invited",
        "_queued",
        "_replay",
        "_tried",
        "attempt",
        "backend",
        "begun",
        "bytes_in",
        "bytes_out",
        "client",
        "continue_by",
        "deadline",
        "dialled",
        "dispatched",
        "ended",
        "endpoint",
        "expects",
        "frontend",
        "head_at",
        "hedge",
        "hedged",
        "lines",
        "local_address",
        "looked_up",
        "meaning",
        "picked_from",
        "plane",
        "pool",
        "received",
        "request",
        "request_done",
        "request_id",
        "request_trailers",
        "responding",
        "router_error",
        "scratch",
        "service",
        "spent",
        "sticky",
        "trial",
        "status",
        "steps",
        "took",
        "trace",
        "unusual",
        "upgrade",
        "waited",
        "waits_since",
    )

    steps: Steps
    ended: int
    """When it was over, unix ns."""
    took: int
    """Microseconds to its end, once it is settled (`proxy.accounting`)."""
    spent: int
    """Microseconds of these in the router, before the first attempt; 0 = there was none."""
    waited: int
    """Microseconds that the backend took to the head; nothing where none came."""

    def __init__(self, plane: Plane, frontend: FrontendH1 | Stream, request: RequestHead) -> None:
        self.plane = plane
        self.frontend = frontend
        self.request = request
        self.client = frontend.peer_ip
        self.received = time_ns()
        self.dispatched = 0
        """When the first attempt began, unix ns; 0 = it never got that far."""
        self.begun = 0
        """When the last attempt began, unix ns, if it was not the first."""
        self.dialled = 0
        """Nanoseconds that connecting took in the last attempt, TLS included; 0 = it found an idle connection.

        Only where it took any is there `steps`, which tells its parts.
        """
        self.head_at = 0
        """When the response head came, unix ns; 0 = none came."""
        self.local_address = ""
        """Our end of the connection that the response came over."""
        self.looked_up = 0
        """Nanoseconds that the look-up of its route took; 0 = not timed."""
        ids = plane.request_ids
        self.request_id = ids.ready.pop() if ids.ready else ids.next()
        self.request_done = request.body == NO_BODY
        self.request_trailers: HeaderList = NO_TRAILERS
        self.trace: Trace | None = None
        self.lines = b""
        """What the router adds to the request's head, but for the endpoint's own lines."""
        self.pool: Pool | None = None
        self.endpoint: Endpoint | None = None
        self.backend: Backend | None = None
        self.attempt = 0
        self.scratch: Any = None
        self.service: Leg | None = None
        """It is on its way to a route service (`proxy.route_services`)."""
        self.sticky: Wish | None = None
        """The instance that the client asks for by cookie (contract §4.7)."""
        self.status = 0
        self.router_error = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.meaning: Meaning | None = None
        """What its header lines mean, once it has got as far as to a pool."""
        self.responding = False
        """A final response head went to the client."""
        self.waits_since = 0.0
        """When the attempt began, or its request was complete; seconds of the worker's clock."""
        self.hedge: Hedge | None = None
        """A second attempt beside this one (`proxy.hedge`)."""
        self.hedged = False
        """There has been one."""
        self.trial = False
        """The attempt is a trial of an endpoint that is out of use (`balance.health`)."""
        self.deadline = 0.0
        self.continue_by = 0.0
        self.expects = not self.request_done and b"expect" in request.noted
        """The client waits for a 100 before it sends its body: none was passed on yet, nor has any of the body come."""
        self.unusual = not request.clean
        """There is more to write down than of a request that got its answer at once, over an idle connection."""
        self.upgrade = b""
        """The protocol asked for by `Upgrade`, lower case, when we tunnel it; else empty."""
        self._began = 0.0
        """When the attempt began, if the pool's strategy wants to hear of its end; monotonic seconds."""
        self._counted = False
        self._dialling: Place | asyncio.Task[None] | None = None
        self._finished = False
        self._invited = False
        """We sent a 100 of our own."""
        self._fresh = False
        """The next attempt is not made on a connection that has been idle."""
        self._queued = False
        self.picked_from: Pool | None = None
        """The pool, or the part of it, whose strategy picked the endpoint; None when nobody's did."""
        self._replay: list[bytes] | None = []
        """The request body so far, for an attempt that is still to come; None = too long to be kept."""
        self._tried: set[str] | None = None

    def header(self, name: bytes) -> bytes | None:
        """Value of a request header by lower-case name; for strategies."""
        return self.request.header(name)

    @property
    def target(self) -> bytes:
        """The request target; for strategies."""
        return self.request.target

    @property
    def takes_trailers(self) -> bool:
        """The client said `TE: trailers`."""
        te = self.request.noted.get(b"te", b"")
        return b"trailers" in {token.partition(b";")[0].strip(b" \t") for token in te.lower().split(b",")}

    @property
    def fit_for_trial(self) -> bool:
        """It could be repeated elsewhere without harm, and has not been yet."""
        request = self.request
        return request.method in IDEMPOTENT and request.body == NO_BODY and not self.upgrade and self._tried is None

    # -------------------------------------------------------- answers of our own

    def _unknown_route(self) -> None:
        plane = self.plane
        plane.counters[Counter.BAD_REQUESTS] += 1
        if plane.settings.debug_404 and plane.ask_route is not None:
            self._dialling = plane.loop.create_task(self._explain(plane.ask_route))
        else:
            self._not_found(self.plane.missing_route_hints())

    async def _explain(self, ask: Any) -> None:
        lines = await ask(self.request.host.decode("utf-8", "replace"))
        self._dialling = None
        if not self._finished:
            self._not_found([*self.plane.missing_route_hints(), *lines])

    def _not_found(self, hints: list[str]) -> None:
        self._answer(errors.error_answer(errors.UNKNOWN_ROUTE, self.request.raw_host, hints, look=self._look))

    @property
    def _look(self) -> Look:
        return Look(self.request.header(b"accept"), self.plane.error_template)

    def refuse(self, row: errors.ErrorRow, reason: str = "") -> None:
        """Answer with a row of the errors; `reason` is part of its message."""
        if row.number <= 7:
            self.plane.counters[Counter.BAD_REQUESTS] += 1
        answer = errors.error_answer(row, self.request.raw_host, look=self._look, reason=reason)
        self.plane.log.info("status", body=answer.body.decode("utf-8", "replace"))
        self._answer(answer)

    def _limit_reached(self) -> None:
        self.plane.counters[Counter.EXHAUSTED] += 1
        self.plane.log.info("connection-limit-reached", host=self.request.raw_host.decode("utf-8", "replace"))
        self.refuse(errors.CONNECTION_LIMIT)

    def _answer(self, answer: errors.Answer) -> None:
        self.responding = True
        self.continue_by = 0.0
        self.status = answer.status
        self.router_error = answer.router_error
        if self.plane.rewrite is not None:
            answer = answer._replace(headers=self.plane.rewrite.answer(answer.headers))
        body = answer.body if self.request.method != b"HEAD" else b""
        self.bytes_out = len(body)
        self.frontend.send_answer(answer, body)
        self._finish()
        self.frontend.next_request()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self.unusual = True
            self.plane.accounting.add(self)
