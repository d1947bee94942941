"""The health of the router (contract §11.3), and what the signals of control mean.

    initializing  the table fills; nobody should send requests yet
    healthy       workers accept connections and know routes; a bus lost later changes nothing: they keep what they know
    degraded      final: the router is on its way out

`/health`, the health check by User-Agent and error pages all follow from here.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from enum import Enum

from router.messages import HealthState


class Phase(Enum):
    """Where the router is in its life."""

    INITIALIZING = "initializing"
    HEALTHY = "healthy"
    DEGRADED = "degraded"


class Health:
    """What is known about the router's health; `on_change` is called with every new state."""

    def __init__(self, on_change: Callable[[HealthState], None], *, bus: bool) -> None:
        """`bus` is False for a router that runs without one."""
        self.phase = Phase.INITIALIZING
        self._on_change = on_change
        self._serving = False
        self._informed = not bus
        self._bus_lost_at: float | None = time.time() if bus else None
        self._leaving = "it is stopping"

    @property
    def healthy(self) -> bool:
        return self.phase is Phase.HEALTHY

    @property
    def reason(self) -> str:
        """Why the router is not healthy, for a person; empty when it is."""
        if self.phase is Phase.HEALTHY:
            return ""
        if self.phase is Phase.DEGRADED:
            return self._leaving
        if not self._informed:
            return self.bus_note
        return "it does not accept connections yet"

    @property
    def bus_note(self) -> str:
        """The state of the bus for error pages, empty when all is well."""
        if self._bus_lost_at is None:
            return ""
        since = time.strftime("%H:%M:%S", time.gmtime(self._bus_lost_at))
        return f"not connected to NATS since {since} UTC"

    @property
    def state(self) -> HealthState:
        """What workers are told."""
        return HealthState(self.healthy, self.bus_note)

    def serving(self) -> None:
        """Workers accept connections."""
        self._serving = True
        self._settle()

    def table_taken_over(self) -> None:
        """The table is that of an earlier control: as good as one heard from the bus."""
        self._informed = True
        self._settle()

    def bus_connected(self) -> None:
        self._informed = True
        self._bus_lost_at = None
        self._settle()

    def bus_lost(self) -> None:
        self._bus_lost_at = self._bus_lost_at or time.time()
        self._settle()

    def stopping(self, why: str = "it is stopping") -> None:
        """From now on the router is degraded: balancers in front are to send nothing more."""
        self.phase = Phase.DEGRADED
        self._leaving = why
        self._settle()

    def _settle(self) -> None:
        if self.phase is Phase.INITIALIZING and self._serving and self._informed:
            self.phase = Phase.HEALTHY
        self._on_change(self.state)


class Order(Enum):
    """What control can be told by a signal."""

    STOP = "stop"
    """Fast but orderly: requests in flight get a second."""
    DRAIN = "drain"
    """Fail health checks, wait, finish everything, then end."""
    REOPEN = "reopen logs"
    RELOAD = "reload"
    """Read the configuration again and put it in force; reopens logs too."""
    UPGRADE = "upgrade"
    """Be replaced by the program as it is now installed; workers go on meanwhile."""


_COMMON = {
    signal.SIGTERM: Order.STOP,
    signal.SIGINT: Order.STOP,
    signal.SIGQUIT: Order.DRAIN,
    signal.SIGHUP: Order.RELOAD,
    signal.SIGUSR2: Order.UPGRADE,
}
SIGNALS = {
    "gorouter": {**_COMMON, signal.SIGUSR1: Order.DRAIN},
    "nginx": {**_COMMON, signal.SIGUSR1: Order.REOPEN},
}
"""Profile → signal → order (contract §8.9; docs/operating.md)."""

EXIT_FORCED = 3
"""Exit status of a drain that had to cut what was still going on at `drain_timeout`."""
