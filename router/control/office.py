"""What those who keep workers need of the rest of control, and how they get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from router.control.unknown import explain_missing
from router.messages import FEED_VERSION, EndpointUnfit, HealthState, Setup, SpanRecord, Stats

if TYPE_CHECKING:
    from router.control.app import Control


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


class ControlOffice:
    """The `Office` of a `Control`."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def setup_for(self, slot: int, lane: int, lanes: list[int]) -> Setup:
        control = self._control
        return Setup(
            FEED_VERSION,
            slot,
            lane,
            lanes,
            control.in_flight.capacity,
            str(control.run_dir.path.absolute()),
            control.worker_settings,
        )

    @property
    def health(self) -> HealthState:
        return self._control.health.state

    def stats_received(self, lane: int, stats: Stats) -> None:
        self._control.figures.received(lane, stats)
        if self._control.on_bus is not None:
            self._control.on_bus.saw_requests(stats.apps)

    def spans_received(self, records: list[SpanRecord]) -> None:
        self._control.observing.export_spans(records)

    def worker_gone(self, lane: int) -> None:
        self._control.figures.gone(lane)

    def hints_for(self, host: str) -> list[str]:
        return explain_missing(self._control.registry, host)

    def endpoint_unfit(self, unfit: EndpointUnfit) -> None:
        self._control.registry.remove_unfit(unfit.key, unfit.id, unfit.reason)

    def workers_changed(self) -> None:
        self._control.run_dir.save(self._control.keeper.states())
