"""gRPC through the router: grpcio on both sides, every kind of call (contract §8.7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support import certs
from tests.support.wire import serving

grpc = pytest.importorskip("grpc")

MESSAGES = 2000


def unary(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("x-seen", "1"),))
    return request.upper()


def count(requests: Iterator[bytes], context: Any) -> bytes:
    return b"%d" % sum(len(request) for request in requests)


def repeat(request: bytes, context: Any) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"message %d" % number


def echo(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


def fail(request: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
    raise AssertionError


@asynccontextmanager
async def calls() -> AsyncIterator[Any]:
    """A channel through the router to a gRPC server."""
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Count": grpc.stream_unary_rpc_method_handler(count),
        "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    leaf = certs.issued("instance-1")
    pair = leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    settings = {"listeners": ("https",), "front_tls": certs.front(), "backend_tls": certs.back()}
    async with serving(**settings) as (bench, _):
        bench.route("app.test", port, tls=True, protocol="http2", server_cert_domain_san="instance-1")
        trusted = grpc.ssl_channel_credentials(certs.authority().cert_pem.bytes())
        options = (("grpc.ssl_target_name_override", "app.test"), ("grpc.default_authority", "app.test"))
        channel = grpc.secure_channel(f"127.0.0.1:{bench.port}", trusted, options)
        try:
            yield channel
        finally:
            await asyncio.to_thread(channel.close)
            for endpoint in bench.plane.table.endpoints.values():
                if endpoint.connections is not None:
                    endpoint.connections.close()
            await asyncio.to_thread(server.stop(0).wait)


async def test_unary() -> None:
    async with calls() as channel:
        answer, call = await asyncio.to_thread(
            lambda: channel.unary_unary("/test.Service/Unary").with_call(b"hello", timeout=10)
        )
        assert answer == b"HELLO"
        assert ("x-seen", "1") in call.trailing_metadata()


async def test_streams_in_either_direction() -> None:
    async with calls() as channel:
        words = [b"x" * 1000] * MESSAGES
        assert await asyncio.to_thread(
            lambda: channel.stream_unary("/test.Service/Count")(iter(words), timeout=30)
        ) == b"%d" % (1000 * MESSAGES)
        told = await asyncio.to_thread(
            lambda: list(channel.unary_stream("/test.Service/Repeat")(b"%d" % MESSAGES, timeout=30))
        )
        assert told == [b"message %d" % number for number in range(MESSAGES)]


async def test_streams_in_both_directions() -> None:
    async with calls() as channel:
        words = [b"word %d" % number for number in range(MESSAGES)]
        assert (
            await asyncio.to_thread(lambda: list(channel.stream_stream("/test.Service/Echo")(iter(words), timeout=30)))
            == words
        )


async def test_errors_keep_their_code_and_words() -> None:
    async with calls() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(lambda: channel.unary_unary("/test.Service/Fail")(b"", timeout=10))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no")


async def test_an_unknown_route_is_an_error_and_no_hang() -> None:
    async with calls() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(lambda: channel.unary_unary("/test.Service/Nothing")(b"", timeout=10))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
