"""A registry in PostgreSQL, empty, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from supervisor.store import Registry
from tests.support import postgres


@pytest.fixture
def url() -> Iterator[str]:
    """Of a registry with the schema of this version and nothing in it."""
    with postgres.new_database() as made:
        yield made


@pytest.fixture
async def registry(url: str) -> AsyncIterator[Registry]:
    opened = await Registry.open(url)
    yield opened
    await opened.close()
