"""A real journal and a clock that stands still, for every test of a message's way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.messages.scope import Scope
from supervisor.store import Journal, Registry
from tests.support.clock import ManualClock
from tests.support.messaging import journal_in, scope_of


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with journal_in(tmp_path) as opened:
        yield opened


@pytest.fixture
def scope(registry: Registry, clock: ManualClock) -> Scope:
    return scope_of(registry, clock)


@pytest.fixture
def journal(registry: Registry) -> Journal:
    return registry.journal
