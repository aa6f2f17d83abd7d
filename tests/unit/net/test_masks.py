"""Frames that a server has masked are refused, wherever the network cuts the bytes."""

from __future__ import annotations

import random

import aiohttp
import pytest

from supervisor.net.masks import UnmaskedFrames


class Reader:
    """Takes bytes as aiohttp's reader does, and hears of a refusal as its queue does."""

    def __init__(self) -> None:
        self.data = b""
        self.refused: list[Exception] = []
        self.ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True

    def set_exception(self, error: Exception) -> None:
        self.refused.append(error)


def frame(payload: bytes, *, masked: bool = False) -> bytes:
    """A text frame."""
    size = len(payload)
    if size < 126:
        length = bytes([size | masked << 7])
    elif size < 2**16:
        length = bytes([126 | masked << 7]) + size.to_bytes(2, "big")
    else:
        length = bytes([127 | masked << 7]) + size.to_bytes(8, "big")
    return b"\x81" + length + (b"\xff\xfe\xfd\xfc" if masked else b"") + payload


SIZES = (0, 1, 125, 126, 300, 2**16 - 1, 2**16, 70_000)


def cut(data: bytes, draw: random.Random, most: int) -> list[bytes]:
    """The bytes in pieces of any size."""
    pieces = []
    while data:
        size = draw.randint(1, most)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_masked_passes_as_it_is_however_it_is_cut(seed: int) -> None:
    draw = random.Random(seed)
    # Payloads of bytes that would be masked headers, were they taken for any.
    sent = b"".join(frame(b"\xff" * draw.choice(SIZES)) for _ in range(12))
    reader = Reader()
    guard = UnmaskedFrames(reader, reader)
    for piece in cut(sent, draw, draw.choice((1, 3, 200, 100_000))):
        assert guard.feed_data(piece) == (False, b"")
    guard.feed_eof()
    assert (reader.data, reader.refused, reader.ended) == (sent, [], True)


@pytest.mark.parametrize("seed", range(20))
def test_a_masked_frame_is_refused_after_all_that_came_before_it(seed: int) -> None:
    draw = random.Random(seed)
    before = b"".join(frame(b"\xff" * draw.choice(SIZES)) for _ in range(draw.randint(0, 5)))
    sent = before + frame(b"x" * draw.choice(SIZES), masked=True) + frame(b"after")
    reader = Reader()
    guard = UnmaskedFrames(reader, reader)
    for piece in cut(sent, draw, draw.choice((1, 3, 200, 100_000))):
        if guard.feed_data(piece)[0]:
            break
    else:
        pytest.fail("it was not refused")
    # At most the first byte of its header, which says nothing yet, went by.
    assert before == reader.data[: len(before)]
    assert len(reader.data) - len(before) <= 1
    [refused] = reader.refused
    assert isinstance(refused, aiohttp.WebSocketError)
    assert refused.code == aiohttp.WSCloseCode.PROTOCOL_ERROR
