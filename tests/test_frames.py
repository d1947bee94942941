"""Frames: whatever the pieces of the stream, the same payloads."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.frames import FrameError, Splitter, frame
from router.messages import FRAME_HEADER, MAX_FRAME, Delta, PutEndpoint, ToWorker
from router.messages import EndpointSpec as Spec


def test_a_message_comes_back_as_it_went() -> None:
    message = Delta([PutEndpoint.of(1, 2, Spec("10.0.0.1", 80, tags=(("component", "web"),)))])
    (payload,) = Splitter().split(frame(message))
    assert msgspec.msgpack.decode(payload, type=ToWorker) == message


@given(payloads=st.lists(st.binary(max_size=300)), cut=st.integers(1, 50))
def test_payloads_do_not_depend_on_how_the_stream_is_cut(payloads: list[bytes], cut: int) -> None:
    stream = b"".join(len(p).to_bytes(FRAME_HEADER, "big") + p for p in payloads)
    splitter = Splitter()
    pieces = [stream[i : i + cut] for i in range(0, len(stream), cut)]
    assert [p for piece in pieces for p in splitter.split(piece)] == payloads


def test_an_impossible_length_is_refused() -> None:
    with pytest.raises(FrameError, match=str(MAX_FRAME + 1)):
        list(Splitter().split((MAX_FRAME + 1).to_bytes(FRAME_HEADER, "big")))
