"""What those who keep workers need of the rest of control."""

from __future__ import annotations

from typing import Protocol

from router.messages import EndpointUnfit, HealthState, Setup, SpanRecord, Stats


class Office(Protocol):
    """Orders for workers, and where their reports go."""

    def setup_for(self, slot: int, lane: int, lanes: list[int]) -> Setup:
        """The first frame for a worker of a slot, which counts in `lane`; all `lanes` count just now."""
        ...

    @property
    def health(self) -> HealthState:
        """What workers shall answer to health checks now."""
        ...

    def stats_received(self, lane: int, stats: Stats) -> None:
        """A worker's figures."""

    def spans_received(self, records: list[SpanRecord]) -> None:
        """Sampled requests of a worker's, for export."""

    def worker_gone(self, lane: int) -> None:
        """No more figures from this one."""

    def hints_for(self, host: str) -> list[str]:
        """What is known about a host without a route, for a person."""
        ...

    def endpoint_unfit(self, unfit: EndpointUnfit) -> None:
        """A worker found that a TLS endpoint must leave its pool."""

    def workers_changed(self) -> None:
        """Another process sits in a slot, or none."""
