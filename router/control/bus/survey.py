"""Who is on the bus, and who disagrees about what: for `router fleet`. Asks as any party could; changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout

from router.control.bus.client import BusSettings
from router.control.bus.exchange import LAYOUT, PieceError, read_piece
from router.control.bus.fleet import GET, WHO, Announcement, Ask
from router.control.bus.visit import Unreachable, visit
from router.messages import EndpointSpec, StartMessage
from router.table.digest import PACKED_BYTES, differing

PATIENCE = 0.5
"""Seconds after the last answer in which another one may come."""
SECOND_LOOK = 2.5
"""Seconds after which what differs is looked at again: what was on its way has arrived then."""
ASKER = "survey"
NAME = "router fleet"

Entries = dict[tuple[str, str], EndpointSpec]


class SurveyError(Exception):
    """Why nothing could be found out, in words for the user."""


class Difference(msgspec.Struct):
    """An endpoint of a route that `router` has and the others have not, or the other way round, or both unlike."""

    router: str
    route: str
    address: str
    what: str


class Survey(msgspec.Struct):
    """`routers` speak of their tables; `others` are routers of another kind, by their start message."""

    routers: list[dict[str, Any]]
    others: list[StartMessage]
    differences: list[Difference]
    agree: bool


async def survey(settings: BusSettings) -> Survey:
    """Ask everyone. Raises SurveyError."""
    try:
        client = await visit(settings, NAME)
    except Unreachable as error:
        raise SurveyError(str(error)) from error
    try:
        routers = await _routers(client)
        if _unlike(routers):
            await asyncio.sleep(SECOND_LOOK)
            routers = await _routers(client)
        greeted = [msgspec.json.decode(data, type=StartMessage) for data in await _answers(client, "router.greet", b"")]
        differences = await _differences(client, routers)
    except (NatsError, OSError, msgspec.MsgspecError) as error:
        raise SurveyError(f"an answer can't be used: {error}") from error
    finally:
        await client.close()
    ids = {router.id for router in routers}
    return Survey(
        [_shown(router) for router in routers],
        [start for start in greeted if start.id not in ids],
        differences,
        not _unlike(routers),
    )


async def _routers(client: Client) -> list[Announcement]:
    found = [msgspec.json.decode(data, type=Announcement) for data in await _answers(client, WHO, b"")]
    return sorted(found, key=lambda router: router.id)


async def _answers(client: Client, subject: str, payload: bytes) -> list[bytes]:
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, payload, reply=inbox)
    found: list[bytes] = []
    while True:
        try:
            message = await subscription.next_msg(PATIENCE)
        except NatsTimeout:
            await subscription.unsubscribe()
            return found
        if message.headers and message.headers.get("Status") == "503":
            await subscription.unsubscribe()
            return []
        found.append(message.data)


def _shown(router: Announcement) -> dict[str, Any]:
    keys = "id", "version", "host", "scope", "routes", "endpoints", "listening"
    return {key: getattr(router, key) for key in keys}


def _unlike(routers: Iterable[Announcement]) -> list[tuple[Announcement, Announcement, list[int]]]:
    """Pairs of routers that ought to agree and don't: the first with each other one of its scope, and where."""
    firsts: dict[str, Announcement] = {}
    found = []
    for router in routers:
        if router.layout != LAYOUT or len(router.digests) != PACKED_BYTES:
            continue
        first = firsts.setdefault(router.scope, router)
        if buckets := differing(first.digests, router.digests):
            found.append((first, router, buckets))
    return found


async def _differences(client: Client, routers: list[Announcement]) -> list[Difference]:
    found = []
    for first, second, buckets in _unlike(routers):
        ours, theirs = [await _entries(client, router.id, buckets) for router in (first, second)]
        for name in sorted(ours.keys() | theirs.keys()):
            one, other = ours.get(name), theirs.get(name)
            if one == other:
                continue
            if other is None:
                what = f"missing; {first.id} has it"
            elif one is None:
                what = f"there; {first.id} has it not"
            else:
                what = f"registered otherwise than at {first.id}"
            found.append(Difference(second.id, *name, what))
    return found


async def _entries(client: Client, id: str, buckets: list[int]) -> Entries:
    found: Entries = {}
    for data in await _answers(client, GET + id, msgspec.json.encode(Ask(ASKER, buckets))):
        try:
            piece = read_piece(data)
        except PieceError as error:
            raise SurveyError(f"{id} sends a table that can't be read: {error}") from None
        for route in piece.routes:
            found.update(((route.key, spec.address), spec) for spec, _ in route.endpoints)
    return found
