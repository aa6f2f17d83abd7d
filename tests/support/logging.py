"""What the supervisor logs, as a test may read it; a plugin of ``tests/conftest.py``."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import structlog

from supervisor.telemetry import logs


class Written(io.StringIO):
    """What was written, whenever that is asked: lines travel through a queue."""

    def getvalue(self) -> str:
        """All of it, with what was logged up to now."""
        assert logs.flush(), "the log's thread does not write"
        return super().getvalue()


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged so far, at every level, one dict a line."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = Written()
    logs.configure("DEBUG", "json", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    logs.get_logger("tests")


def configured(
    fmt: Literal["json", "console"] = "json", level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
) -> Written:
    """Have everything logged to what is returned, until logging is configured again."""
    stream = Written()
    logs.configure(level, fmt, stream)
    return stream


def fail(text: str) -> None:
    """Raise ``text``."""
    raise ValueError(text)


def lines(stream: Written) -> list[dict[str, Any]]:
    """The lines of JSON that were logged."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]
