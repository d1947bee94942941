"""The health of a router (contract §11.3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from router.control.lifecycle import Health
from router.messages import HealthState

Step = Callable[[Health], None]
SERVING, BUS, LOST, TAKEN, STOP = (
    Health.serving,
    Health.bus_connected,
    Health.bus_lost,
    Health.table_taken_over,
    Health.stopping,
)
NO_BUS = "not connected to NATS since "


@pytest.mark.parametrize(
    ("bus", "steps", "reason"),
    [
        (True, [], NO_BUS),
        (True, [SERVING], NO_BUS),
        (True, [BUS], "it does not accept connections yet"),
        (True, [BUS, SERVING], ""),
        (True, [SERVING, BUS], ""),
        (True, [TAKEN, SERVING], ""),
        (True, [BUS, LOST, SERVING], ""),
        (True, [BUS, SERVING, LOST], ""),
        (False, [], "it does not accept connections yet"),
        (False, [SERVING], ""),
        (True, [BUS, SERVING, STOP], "it is stopping"),
        (True, [STOP, BUS, SERVING], "it is stopping"),
    ],
)
def test_health(bus: bool, steps: list[Step], reason: str) -> None:
    told: list[HealthState] = []
    health = Health(told.append, bus=bus)
    for step in steps:
        step(health)
    assert health.reason.startswith(reason)
    assert health.healthy == (not reason) == (not health.reason)
    assert health.state.healthy == health.healthy
    assert len(told) == len(steps)


def test_what_error_pages_say_of_the_bus() -> None:
    health = Health(lambda state: None, bus=True)
    assert health.state.bus_note.startswith(NO_BUS)
    health.bus_connected()
    assert health.state.bus_note == ""
    health.bus_lost()
    first = health.state.bus_note
    health.bus_lost()
    assert health.state.bus_note == first
    assert Health(lambda state: None, bus=False).state.bus_note == ""
