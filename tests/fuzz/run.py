"""One batch of strange messages, reproducible by its seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.fuzz.mutate import REQUESTS, RESPONSES, spoiled
from tests.fuzz.oracle import Finding, read_requests, read_response
from tests.support.memory import MemoryPlane, back, through


@dataclass
class Tally:
    """What became of the messages."""

    requests: int = 0
    forwarded: int = 0
    responses: int = 0
    passed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests} strange requests: {self.forwarded} requests left the router, each read alike by h11; "
            f"{self.responses} strange responses: {self.passed} complete ones reached the client, each read alike"
        )


def run(seed: int, count: int, tally: Tally) -> None:
    """`count` requests and as many responses. Raises Finding with what reproduces it."""
    random = Random(seed)
    memory = MemoryPlane(max_response_head=8192)
    try:
        for _ in range(count):
            _one_request(random, memory, tally, seed)
            _one_response(random, memory, tally, seed)
    finally:
        memory.close()


def _one_request(random: Random, memory: MemoryPlane, tally: Tally, seed: int) -> None:
    message = spoiled(random, REQUESTS)
    pieces = random.choice([1, 1, 2, 3, 7, len(message) or 1])
    tally.requests += 1
    try:
        whole, _ = through(memory, message)
        split, _ = through(memory, message, pieces)
        read = read_requests(whole)
        if read != read_requests(split):
            raise Finding("another reading when it comes in pieces")
    except Finding as finding:
        raise Finding(f"seed {seed}, request {message!r}: {finding}") from finding
    tally.forwarded += len(read)


def _one_response(random: Random, memory: MemoryPlane, tally: Tally, seed: int) -> None:
    message = spoiled(random, RESPONSES)
    method = random.choice([b"GET", b"GET", b"HEAD"])
    request = method + b" / HTTP/1.1\r\nHost: app.test\r\n\r\n"
    tally.responses += 1
    try:
        whole = read_response(back(memory, request, message), method)
        split = read_response(back(memory, request, message, random.choice([2, 3, 7, len(message) or 1])), method)
        if whole != split and whole is not None and split is not None and whole[2] and split[2]:
            raise Finding(f"another reading when it comes in pieces: {whole!r}, {split!r}")
    except Finding as finding:
        raise Finding(f"seed {seed}, {method!r} answered by {message!r}: {finding}") from finding
    if whole is not None and whole[2] and whole[0] != 502:
        tally.passed += 1
