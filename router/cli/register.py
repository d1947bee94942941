"""`router register` and `router unregister`: one message on the bus, as an app would send it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from router.cli.bus import BusTarget
    from router.control.bus.client import BusSettings

TIMEOUT = 5.0
"""Seconds for NATS to take the message."""


class RegisterError(Exception):
    """Why nothing was sent, in words for the user."""


class Told(NamedTuple):
    """What the user gave: address, URIs, whether the port speaks TLS, other keys, `NAME=VALUE` of tags and options."""

    address: str
    uris: Sequence[str]
    tls: bool = False
    about: Mapping[str, str] = {}
    tags: Sequence[str] = ()
    options: Sequence[str] = ()


def message_of(told: Told) -> dict[str, Any]:
    """The registry message (contract §2.3). Raises RegisterError."""
    from pydantic import TypeAdapter, ValidationError

    from router.config.kinds import Host, RemotePort
    from router.config.static import Uris

    host, _, port = told.address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        TypeAdapter(Host).validate_python(host)
        number = TypeAdapter(RemotePort).validate_python(int(port))
    except ValueError:
        raise RegisterError(f"{told.address}: expected HOST:PORT of the backend, such as 10.0.0.5:8080") from None
    try:
        TypeAdapter(Uris).validate_python(list(told.uris))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise RegisterError(
            f"{wrong['input']}: expected a host or host/path, without scheme and port, such as app.example.com/api"
        ) from None
    message: dict[str, Any] = {"host": host, "tls_port" if told.tls else "port": number, "uris": list(told.uris)}
    message |= {key: value for key, value in told.about.items() if value}
    if told.tags:
        message["tags"] = _pairs("--tag", told.tags)
    if told.options:
        message["options"] = _pairs("--option", told.options)
    return message


def register(verb: str, bus: BusTarget, told: Told, allow_loopback: bool, as_json: bool) -> int:
    """Send a message (`verb`: `register` or `unregister`); gives the exit status."""
    from router.cli.bus import BusError, bus_settings_for
    from router.registrar.address import AddressError, check_address

    try:
        message = message_of(told)
        settings = bus_settings_for(bus)
        if settings is None:
            raise RegisterError(
                "the configuration has no bus (`nats: null`): name one with --nats, or use static routes"
            )
        if verb == "register":
            hosts = [host for host, _ in settings.servers]
            check_address(message["uris"][0], message["host"], hosts, allow_loopback)
        asyncio.run(_send(settings, f"router.{verb}", json.dumps(message).encode()))
    except (RegisterError, AddressError, BusError) as error:
        print(f"router {verb}: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(message))
    elif verb == "register":
        print(f"registered {', '.join(message['uris'])}; routers forget it after 120 s unless it is said again")
    else:
        print(f"unregistered {', '.join(message['uris'])}")
    return 0


async def _send(settings: BusSettings, subject: str, payload: bytes) -> None:
    from nats.errors import Error as NatsError

    from router.control.bus.visit import Unreachable, visit

    said: list[str] = []
    try:
        client = await visit(settings, "router", said.append)
    except Unreachable as error:
        raise RegisterError(str(error)) from error
    said.clear()
    try:
        async with asyncio.timeout(TIMEOUT):
            await client.publish(subject, payload)
            for _ in range(2):  # the first may overtake the message, and a refusal comes before the second returns
                await client.flush()
            await client.close()
    except (NatsError, OSError, TimeoutError) as error:
        said.append(str(error) or type(error).__name__)
    if said:
        raise RegisterError(f"NATS at {settings.servers[0][0]} does not take the message: {said[0]}")


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise RegisterError(f"{option} {text}: expected NAME=VALUE")
        pairs[name] = value
    return pairs
