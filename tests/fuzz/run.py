"""One batch of strange messages, reproducible by its seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.fuzz.mutate import REQUESTS, RESPONSES, spoiled
from tests.fuzz.oracle import Finding, check_answer, meant_requests, meant_response, read_requests, read_response
from tests.support.memory import MemoryPlane, back, through

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Tally:
    """What became of the messages."""

    requests: int = 0
    refused: int = 0
    forwarded: int = 0
    compared: int = 0
    responses: int = 0
    bad_gateways: int = 0
    passed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} strange requests: {self.refused:,} refused; {self.forwarded:,} requests left the "
            f"router, each read alike by h11, {self.compared:,} of them also as h11 reads what the client sent.\n"
            f"{self.responses:,} strange responses: {self.bad_gateways:,} turned into 502; {self.passed:,} complete "
            "ones reached the client, each read alike by h11.\n"
            "Nothing that a strict backend would read differently ever left the router."
        )


def run(seed: int, count: int, tally: Tally) -> None:
    """`count` requests and as many responses. Raises Finding with what reproduces it."""
    random = Random(seed)
    memory = MemoryPlane(max_response_head=8192, keep_alive_100_continue=True)
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
        whole, told = through(memory, message, answer=ANSWER)
        split, told_in_pieces = through(memory, message, pieces, answer=ANSWER)
        read, again = read_requests(whole), read_requests(split)
        # An answer given before the body came (Expect) ends the connection: what is behind it may be left unread.
        ended = b"\r\nConnection: close\r\n" in told_in_pieces
        if read[: len(again)] != again or (len(read) > len(again) and not ended):
            raise Finding("another reading when it comes in pieces")
        tally.compared += _compare(read, *meant_requests(message))
    except Finding as finding:
        raise Finding(f"seed {seed}, request {message!r}: {finding}") from finding
    tally.forwarded += len(read)
    tally.refused += b"\r\nConnection: close\r\n" in told and b" 200 OK" not in told


def _compare(read: list[tuple[bytes, bytes, bytes]], meant: list[tuple[bytes, bytes]], whole: bool) -> int:
    """How many of the requests that left are, in order, what the client meant. The router answers some itself.

    Where h11 refused something (`whole` is False) nothing is said about what came behind it.
    """
    at = 0
    for number, (method, _, body) in enumerate(read):
        while at < len(meant) and meant[at] != (method, body):
            at += 1
        if at == len(meant):
            if whole:
                raise Finding(f"the client meant {meant!r} and the backend got {read!r}")
            return number
        at += 1
    return len(read)


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
        check_answer(whole, meant_response(message, method))
    except Finding as finding:
        raise Finding(f"seed {seed}, {method!r} answered by {message!r}: {finding}") from finding
    if whole is not None and whole[2]:
        tally.bad_gateways += whole[0] == 502
        tally.passed += whole[0] != 502
