"""What the fast wire writes by itself: a client's frames, as another library reads them."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from supervisor.platform.transport.wires.picows import masked


def read(data: bytes) -> tuple[Frame, bytes]:
    """The frame that a server's library reads, and what is left behind it."""
    stream = StreamReader()
    stream.feed_data(data)
    reading: Generator[None, None, Frame] = Frame.parse(stream.read_exact, mask=True)
    with pytest.raises(StopIteration) as read_:
        next(reading)
    return read_.value.value, bytes(stream.buffer)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_a_frame_of_any_size_is_read_as_it_was_written(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    frame, left = read(masked(payload) + b"next")
    assert (frame.opcode, frame.fin, bytes(frame.data), left) == (Opcode.TEXT, True, payload, b"next")


def test_each_frame_has_a_mask_of_its_own() -> None:
    assert len({masked(b"the same text") for _ in range(20)}) == 20
