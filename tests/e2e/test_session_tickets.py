"""Session tickets of a router with several workers: good at all of them, and after a reload (docs/tls.md)."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from pathlib import Path

from tests.e2e.test_drain_reload_upgrade import rewrite
from tests.support import certs
from tests.support.processes import free_port
from tests.support.routers import RouterProcess


def handshake(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession, bool]:
    """The session of a new connection, and whether it was resumed from this one."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="app.test", session=session) as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
        while tls.recv(4096):
            pass
        assert tls.session is not None
        assert tls.session_reused is not None
        return tls.session, tls.session_reused


async def test_every_worker_opens_the_tickets_of_the_others(tmp_path: Path) -> None:
    pair = certs.certificate(certs.issued("app.test"))
    ssl_port = free_port()
    r = RouterProcess(
        tmp_path,
        0,
        nats=None,
        workers=2,
        enable_ssl=True,
        ssl_port=ssl_port,
        tls_pem=[{"cert_chain": pair.chain, "private_key": pair.key}],
    )
    await r.start()
    try:
        await r.logged("router.started")
        context = certs.client()
        session, resumed = await asyncio.to_thread(handshake, ssl_port, context, None)
        assert not resumed
        told = [await asyncio.to_thread(handshake, ssl_port, context, session) for _ in range(12)]
        assert all(resumed for _, resumed in told)
        rewrite(r, endpoint_timeout="31s")
        r.process.send_signal(signal.SIGHUP)
        await r.logged("configuration-reloaded")
        told = [await asyncio.to_thread(handshake, ssl_port, context, session) for _ in range(12)]
        assert all(resumed for _, resumed in told)
    finally:
        await r.stop()
