"""Answers ``GET /metrics`` without holding up the event loop, however many ask at once."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from supervisor.telemetry.metrics import Metrics

#: What is compressed in one step: less than a millisecond's work.
STEP_BYTES: Final = 64 * 1024
#: The fastest: the text of a fleet shrinks to a tenth all the same.
LEVEL: Final = 1
_GZIP_WINDOW: Final = 31


class Scrapes:
    """Scrapes of one supervisor's figures. Whoever asks while an answer of the same form is being made gets that one.

    Args:
        metrics: asked for each scrape.
    """

    def __init__(self, metrics: Callable[[], Metrics]) -> None:
        self._metrics = metrics
        self._under_way: dict[str, asyncio.Task[bytes]] = {}

    async def answer(self, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
        """All figures in the form that the two headers ask for: the body, and the headers that describe it."""
        pieces, content_type = self._metrics().slices(accept)
        headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
        if not _allows_gzip(accept_encoding):
            return await asyncio.shield(self._text(content_type, pieces)), headers
        headers["content-encoding"] = "gzip"
        compressed = self._shared(f"gzip {content_type}", lambda: _compress(self._text(content_type, pieces)))
        return await asyncio.shield(compressed), headers

    def _text(self, content_type: str, pieces: Iterator[bytes]) -> asyncio.Task[bytes]:
        return self._shared(content_type, lambda: _join(pieces))

    def _shared(self, form: str, make: Callable[[], Coroutine[Any, Any, bytes]]) -> asyncio.Task[bytes]:
        """The answer of this form that is being made, or a new one."""
        task = self._under_way.get(form)
        if task is None:
            task = self._under_way[form] = asyncio.create_task(make(), name=f"scrape {form}")
            task.add_done_callback(lambda _: self._under_way.pop(form))
        return task


async def _join(pieces: Iterator[bytes]) -> bytes:
    made = []
    for piece in pieces:
        made.append(piece)
        # Messages get their turn in between: a large fleet's figures take a while to write.
        await asyncio.sleep(0)
    return b"".join(made)


async def _compress(text: asyncio.Task[bytes]) -> bytes:
    body, compressor = memoryview(await text), zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    made = []
    for first in range(0, len(body), STEP_BYTES):
        made.append(compressor.compress(body[first : first + STEP_BYTES]))
        await asyncio.sleep(0)
    return b"".join([*made, compressor.flush()])


def _allows_gzip(accept_encoding: str) -> bool:
    for each in accept_encoding.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
