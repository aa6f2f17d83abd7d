"""Tokens that are kept for whoever runs an agent next: for that one alone, and for nobody who reads the database."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.errors import RegistryError
from supervisor.platform.tokens.keeping import KeptTokens, asked_with
from supervisor.settings.secrets import SecretBox, generate_key
from tests.support.clock import ManualClock
from tests.support.connecting import make_test_grant

API, SECRET = "https://api.example/aiwm", "s3cret-of-the-test"


class Shelf:
    """Where tokens are kept."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, float]] = {}
        self.away = False
        self.written: list[str] = []

    async def read(self, agent_id: str) -> tuple[bytes, float] | None:
        if self.away:
            raise RegistryError("it is away")
        return self.kept.get(agent_id)

    async def write(self, agent_id: str, sealed: bytes | None, age_seconds: float) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise RegistryError("it is away")
        self.written.append(agent_id)
        if sealed is None:
            self.kept.pop(agent_id, None)
        else:
            self.kept[agent_id] = sealed, age_seconds


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def keeper(shelf: Shelf, key: str = "", clock: ManualClock | None = None) -> KeptTokens:
    return KeptTokens(SecretBox([key or generate_key()]), shelf.read, shelf.write, clock or ManualClock())


async def settled(kept: KeptTokens) -> None:
    """Until all is written."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_kept_is_for_the_next_owner_and_says_nothing_to_others(shelf: Shelf) -> None:
    key, mark, grant = generate_key(), asked_with(API, SECRET), make_test_grant()
    kept = keeper(shelf, key)
    kept.keep("a", mark, grant)
    await settled(kept)
    sealed, _ = shelf.kept["a"]
    assert grant.token.encode() not in sealed
    assert SECRET.encode() not in sealed
    found = await keeper(shelf, key).find("a", mark)
    assert found is not None
    assert found[0] == grant.answer
    assert grant.token not in repr(found)
    assert await keeper(shelf, key).find("a", asked_with(API, "another secret")) is None
    assert await keeper(shelf, key).find("a", asked_with("https://another.example", SECRET)) is None
    assert await keeper(shelf).find("a", mark) is None, "with another key"
    # Whoever can write to the database brings it to another agent.
    shelf.kept["b"] = shelf.kept["a"]
    assert await keeper(shelf, key).find("b", mark) is None
    shelf.kept["a"] = (b"nonsense", 1.0)
    assert await keeper(shelf, key).find("a", mark) is None


async def test_the_last_word_is_kept(shelf: Shelf) -> None:
    kept, mark = keeper(shelf), asked_with(API, SECRET)
    kept.keep("b", mark, make_test_grant())
    for _ in range(3):
        kept.keep("a", mark, make_test_grant())
        kept.forget("a")
    await settled(kept)
    assert shelf.kept.keys() == {"b"}
    assert shelf.written == ["b", "a"], "what is asked for while one is written is written once"


async def test_a_registry_that_is_away_costs_a_token_and_no_more(shelf: Shelf) -> None:
    kept, mark = keeper(shelf), asked_with(API, SECRET)
    shelf.away = True
    kept.keep("a", mark, make_test_grant())
    await settled(kept)
    assert await kept.find("a", mark) is None
    shelf.away = False
    kept.keep("a", mark, make_test_grant())
    await settled(kept)
    assert await kept.find("a", mark) is not None
    await kept.close()
