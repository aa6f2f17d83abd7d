"""The conformance suite of the store: what the engine relies on, asked of every implementation by its public face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.store import Journal, Registry
from tests.support.stores import KINDS, Opener, Store, make_store, open_on


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database."""
    with make_store(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def opened(store: Store) -> AsyncIterator[Opener]:
    """Opens registries on the database, as other programs or at later starts."""
    registries: list[Registry] = []

    async def open_registry(**how: Any) -> Registry:
        registries.append(await open_on(store, **how))
        return registries[-1]

    yield open_registry
    for registry in registries:
        await registry.close()


@pytest.fixture
async def registry(opened: Opener) -> Registry:
    """A registry on the database."""
    return await opened()


@pytest.fixture
def journal(registry: Registry) -> Journal:
    """Its journal."""
    return registry.journal
