"""`router register` and `router unregister`: one message on the bus, as an app would send it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TIMEOUT = 5.0
"""Seconds for NATS to take the message."""


class Bus(NamedTuple):
    """Which bus: that of a configuration file, or one server (`nats://USER:PASSWORD@HOST:PORT`)."""

    config_path: str | None
    nats: str | None


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


def register(verb: str, bus: Bus, told: Told, allow_loopback: bool, as_json: bool) -> int:
    """Send a message (`verb`: `register` or `unregister`); gives the exit status."""
    from router.registrar.address import AddressError, check_address

    try:
        message = message_of(told)
        servers, user, password = _servers(bus)
        if verb == "register":
            hosts = [server.rpartition("@")[2].removeprefix("nats://").rpartition(":")[0] for server in servers]
            check_address(message["uris"][0], message["host"], hosts, allow_loopback)
        asyncio.run(_send(servers, user, password, f"router.{verb}", json.dumps(message).encode()))
    except (RegisterError, AddressError) as error:
        print(f"router {verb}: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(message))
    elif verb == "register":
        print(f"registered {', '.join(message['uris'])}; routers forget it after 120 s unless it is said again")
    else:
        print(f"unregistered {', '.join(message['uris'])}")
    return 0


def _servers(bus: Bus) -> tuple[list[str], str, str]:
    if bus.nats is not None:
        return [bus.nats if "://" in bus.nats else f"nats://{bus.nats}"], "", ""

    from router.cli.check import load_or_report
    from router.control.settings import bus_settings

    loaded = load_or_report(bus.config_path)
    if loaded is None:
        raise RegisterError("the configuration can't be used")
    settings = bus_settings(loaded.config)
    if settings is None:
        raise RegisterError("the configuration has no bus (`nats: null`); name one with --nats, or write static routes")
    return [f"nats://{host}:{port}" for host, port in settings.servers], settings.user, settings.password


async def _send(servers: list[str], user: str, password: str, subject: str, payload: bytes) -> None:
    import nats
    from nats.errors import Error as NatsError

    said: list[str] = []

    async def note(error: Exception) -> None:
        said.append(str(error) or type(error).__name__)

    try:
        async with asyncio.timeout(TIMEOUT):
            client = await nats.connect(
                servers=servers,
                user=user or None,
                password=password or None,
                allow_reconnect=False,
                connect_timeout=2,
                error_cb=note,
            )
            await client.publish(subject, payload)
            await client.flush()
            await client.close()
    except (NatsError, OSError, TimeoutError, ValueError) as error:
        shown = ", ".join(server.rpartition("@")[2].removeprefix("nats://") for server in servers)
        reason = said[-1] if said else str(error) or type(error).__name__
        raise RegisterError(f"NATS at {shown} can't be reached: {reason}; name another with --nats or -c") from error


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise RegisterError(f"{option} {text}: expected NAME=VALUE")
        pairs[name] = value
    return pairs
