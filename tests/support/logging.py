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


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged so far, at every level, one dict a line."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("DEBUG", "json", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    logs.get_logger("tests")


def configured(
    fmt: Literal["json", "console"] = "json", level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
) -> io.StringIO:
    """Have everything logged to what is returned, until logging is configured again."""
    stream = io.StringIO()
    logs.configure(level, fmt, stream)
    return stream


def fail(text: str) -> None:
    """Raise ``text``."""
    raise ValueError(text)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines of JSON that were logged."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]
