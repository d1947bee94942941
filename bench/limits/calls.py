"""gRPC calls of thousands of messages pass whole and in order, and who is slow slows the other side, not the router."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import trustme

from ..errors import BenchError
from ..processes import free_port
from ..proxies.base import APP_ID
from .router import Row, forget_peak, peak_rss, router, rss, worker_of
from .streams import backend

NAME = "calls.localhost"
SIZE = 8192
"""Bytes of a message."""
PAUSE = 0.0005
"""Seconds for which the slow side rests after each message."""
MOST_GROWTH = 16 << 20
PATIENCE = 120.0


class Lead:
    """How far the fast side is ahead of the slow one."""

    def __init__(self) -> None:
        self.made = self.taken = self.most = 0

    def make(self, count: int) -> Iterator[bytes]:
        """So many messages, each with its number, as fast as they are wanted."""
        for number in range(count):
            self.made += 1
            yield number.to_bytes(8, "big") + bytes(SIZE - 8)

    def take(self, messages: Iterator[bytes]) -> int:
        """Take them in; how many there were. Raises BenchError when one is missing or out of its order."""
        count = 0
        for message in messages:
            if int.from_bytes(message[:8], "big") != count or len(message) != SIZE:
                raise BenchError(f"message {count:,} is not what was sent")
            count += 1
            self.taken += 1
            self.most = max(self.most, self.made - self.taken)
            time.sleep(PAUSE)
        return count


@contextmanager
def service(lead: Lead, pair: tuple[bytes, bytes]) -> Iterator[int]:
    """A gRPC server: gives messages, takes them, or gives back what it takes."""
    handlers = {
        "Ready": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
        "Give": grpc.unary_stream_rpc_method_handler(lambda request, context: lead.make(int(request))),
        "Take": grpc.stream_unary_rpc_method_handler(lambda requests, context: b"%d" % lead.take(requests)),
        "Echo": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Calls", handlers),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def calls(directory: Path, messages: int) -> Iterator[Row]:
    """Messages down, up and both ways at once, all with a slow reader."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = authority.issue_cert(NAME, key_type=trustme.KeyType.ECDSA)
    pair = leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()
    trusted = authority.cert_pem.bytes()
    lead = Lead()
    settings = {
        "enable_ssl": True,
        "ssl_port": free_port(),
        "tls_pem": [{"cert_chain": pair[1].decode(), "private_key": pair[0].decode()}],
        "ca_certs": [trusted.decode()],
    }
    with ExitStack() as stack:
        port = stack.enter_context(service(lead, pair))
        plain = stack.enter_context(backend(0, lambda: False))
        about = {"host": "127.0.0.1", "tls_port": port, "uris": [NAME], "app": APP_ID, "protocol": "http2"}
        message = json.dumps({**about, "server_cert_domain_san": NAME})
        running = stack.enter_context(router(directory, [plain], also=[message], **settings))
        options = (("grpc.ssl_target_name_override", NAME), ("grpc.default_authority", NAME))
        channel = stack.enter_context(
            grpc.secure_channel(f"127.0.0.1:{settings['ssl_port']}", grpc.ssl_channel_credentials(trusted), options)
        )
        _wait_until_routed(channel)
        pid = worker_of(running)
        for way, work in _WORK.items():
            lead.made = lead.taken = lead.most = 0
            before = rss(pid)
            forget_peak(pid)
            began = time.perf_counter()
            count = work(channel, lead, messages)
            took = time.perf_counter() - began
            growth = peak_rss(pid) - before
            yield Row(
                f"gRPC, {messages:,} messages of {SIZE >> 10} KiB {way}, slow reader",
                f"all, in order; RSS grows by less than {MOST_GROWTH >> 20} MiB",
                f"{count:,}, writer at most {_mib(lead.most * SIZE)} of {_mib(messages * SIZE)} MiB ahead, "
                f"RSS {_mib(before)} + {_mib(growth)} MiB, {count / took:,.0f} a second",
                count == messages and growth < MOST_GROWTH,
            )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f}"


def _down(channel: Any, lead: Lead, messages: int) -> int:
    return lead.take(channel.unary_stream("/bench.Calls/Give")(b"%d" % messages, timeout=PATIENCE))


def _up(channel: Any, lead: Lead, messages: int) -> int:
    return int(channel.stream_unary("/bench.Calls/Take")(lead.make(messages), timeout=PATIENCE))


def _both(channel: Any, lead: Lead, messages: int) -> int:
    return lead.take(channel.stream_stream("/bench.Calls/Echo")(lead.make(messages), timeout=PATIENCE))


_WORK: dict[str, Callable[[Any, Lead, int], int]] = {"down": _down, "up": _up, "up and down": _both}


def _wait_until_routed(channel: Any) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            channel.unary_unary("/bench.Calls/Ready")(b"", timeout=5)
            return
        except grpc.RpcError as error:
            if time.monotonic() > deadline:
                raise BenchError(f"no gRPC through the router: {error}") from None
        time.sleep(0.1)
