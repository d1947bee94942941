"""The bus for those who are no router but have to be let in like one: commands that ask or say something once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nats.errors import Error as NatsError

from router.control.bus.client import BusSettings, connect_options
from router.control.bus.connection import Connection
from router.control.errors import reason

CONNECT = 5.0
"""Seconds in which one of the servers must let us in."""


class Unreachable(Exception):
    """Why no server lets us in, in words for the user."""


def visitor(settings: BusSettings) -> Connection:
    """A connection that has yet to be made, with `connect_options`."""
    return Connection(lambda read_at, messages: None, tls=settings.tls)


async def visit(settings: BusSettings, name: str, on_error: Callable[[str], None] = lambda text: None) -> Connection:
    """A connection under this name; every server is tried, but not for long. Raises Unreachable.

    `on_error` gets what the server has against us later.
    """
    errors: list[str] = []
    client = visitor(settings)

    async def failed(error: Exception) -> None:
        errors.append(reason(error))
        on_error(errors[-1])

    try:
        async with asyncio.timeout(CONNECT):
            await client.connect(
                **connect_options(settings),
                name=name,
                connect_timeout=2,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=failed,
            )
    except (NatsError, OSError, TimeoutError, ValueError) as error:
        # Not closed: after a TLS handshake that failed nats-py would wait for a farewell for ever.
        servers = ", ".join(f"{host}:{port}" for host, port in settings.servers)
        why = "; ".join(dict.fromkeys(errors)) or reason(error)
        raise Unreachable(f"NATS at {servers} can't be reached: {why}; name another with --nats or -c") from error
    return client
