"""`router fleet` over a real bus: who is there, who disagrees, and about what."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from router.control.bus import survey
from router.control.bus.fleet import About, Fleet, FleetOnBus
from router.messages import EndpointSpec
from tests.support.bus import Hearing, nats_server, party


def joined(port: int, id: str) -> Hearing:
    """A router of the fleet that never announces itself, so nothing is repaired while we look."""
    each = Hearing(port)
    fleet = Fleet(each.registry, About(id, "1.2.3", f"{id}:80", "all"), each.bus.post, each.log, 1.0)
    FleetOnBus(each.bus, fleet, id)
    each.bus.start()
    return each


async def test_differences_are_found_and_named(monkeypatch: Any) -> None:
    monkeypatch.setattr(survey, "SECOND_LOOK", 0.0)
    monkeypatch.setattr(survey, "PATIENCE", 0.2)
    async with nats_server() as server, party(server.port) as foreign:

        async def greeted(message: Any) -> None:
            start = {"id": "go", "hosts": ["h"], "minimumRegisterIntervalInSeconds": 20, "pruneThresholdInSeconds": 120}
            await message.respond(json.dumps(start).encode())

        await foreign.subscribe("router.greet", cb=greeted)
        one, two = joined(server.port, "a"), joined(server.port, "b")
        try:
            await asyncio.gather(one.connected(), two.connected())
            for port in (1, 2):
                one.registry.register(EndpointSpec("h", port), ["x.test"])
            two.registry.register(EndpointSpec("h", 1), ["x.test"])
            two.registry.register(EndpointSpec("h", 2, app="other"), ["x.test"])
            two.registry.register(EndpointSpec("h", 3), ["y.test"])
            found = await survey.survey(one.bus._settings)
        finally:
            await asyncio.gather(one.bus.stop(), two.bus.stop())
    assert [(router["id"], router["routes"], router["endpoints"]) for router in found.routers] == [
        ("a", 1, 2),
        ("b", 2, 3),
    ]
    assert "go" in [other.id for other in found.others]
    assert not found.agree
    assert [(each.router, each.route, each.address, each.what) for each in found.differences] == [
        ("b", "x.test", "h:2", "registered otherwise than at a"),
        ("b", "y.test", "h:3", "there; a has it not"),
    ]


async def test_the_command_says_what_is_wrong_without_a_bus(tmp_path: Path) -> None:
    config = tmp_path / "router.yml"
    for text, words in [
        ("nats: null\n", b"no bus"),
        ("nats: {hosts: [{hostname: 127.0.0.1, port: 1}]}\n", b"can't be reached"),
    ]:
        config.write_text(text)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router.cli.main", "fleet", "-c", str(config), stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, words in errors) == (1, True), errors
