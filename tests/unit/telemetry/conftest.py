"""Logging is for the test alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from supervisor.telemetry import logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    # As it is before anything is configured: not structlog's own default, which writes to standard output.
    logs.get_logger("tests")
