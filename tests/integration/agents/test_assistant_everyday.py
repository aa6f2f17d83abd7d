"""An assistant's ordinary day: what reached the model is what was said, in its order, whatever happened in between."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tests.support.assistants import ONLINE_SECONDS, Assistants, assistants
from tests.support.fake_models import Answer, Request, refusal

PEOPLE, MESSAGES = ("ana", "bo"), 10
OVERFLOW = "This model's maximum context length is exceeded"


def turns(request: Request) -> list[tuple[str, str]]:
    """Who said what in a request, without the instruction."""
    return [(one["role"], _text(one["content"])) for one in request.body["messages"] if one["role"] != "system"]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def question(request: Request) -> str:
    """The message that a request is to answer."""
    return turns(request)[-1][1]


class Model:
    """Takes a moment to answer, each message by its name; refuses one of them once, as too long."""

    def __init__(self, too_long: str) -> None:
        self._too_long = {too_long}

    def __call__(self, request: Request) -> Answer:
        asked = question(request)
        if asked in self._too_long:
            self._too_long.discard(asked)
            return refusal(400, OVERFLOW, "context_length_exceeded")
        return Answer(f"Answer to {asked}", delay=0.1)


def conversation(person: str, last: int) -> list[tuple[str, str]]:
    """What was said up to a person's message number ``last``, each answer behind its question."""
    both = ((("user", f"{person} {n}"), ("assistant", f"Answer to {person} {n}")) for n in range(last + 1))
    return list(itertools.chain.from_iterable(both))[:-1]


async def day(fleet: Assistants, identity: str) -> dict[str, str]:
    """Everybody writes in quick succession, over a restart and over a rotation. The conversations by person."""
    users = {person: await fleet.stack.sandbox.user() for person in PEOPLE}
    ids = {person: await user.open(identity) for person, user in users.items()}

    async def write(person: str, numbers: Sequence[int]) -> None:
        for number in numbers:
            await users[person].say(ids[person], f"{person} {number}")
            await asyncio.sleep(0.03)

    def all_write(numbers: Sequence[int]) -> list[Coroutine[Any, Any, None]]:
        return [write(person, numbers) for person in PEOPLE]

    await asyncio.gather(*all_write(range(4)))
    await fleet.stack.until(lambda: len(fleet.models.requests) >= 4)
    await asyncio.gather(fleet.stack.restart(grace_seconds=1), *all_write(range(4, 8)))
    await fleet.stack.online(1, ONLINE_SECONDS)
    connects = len(fleet.stack.sandbox.connects)
    await fleet.stack.until(lambda: len(fleet.stack.sandbox.connects) > connects)
    await asyncio.gather(*all_write(range(8, MESSAGES)))
    return ids


async def test_what_reached_the_model_is_what_was_said(tmp_path: Path) -> None:
    # The generation that has a history: what is said during the restart is in it.
    sandbox = {"profile": "v2", "expires_in_seconds": 2.0}
    async with assistants(tmp_path, sandbox=sandbox, refresh_margin=1.0) as fleet:
        identity = await fleet.add()
        fleet.models.otherwise = Model(too_long="ana 7")
        ids = await day(fleet, identity)
        for person, conversation_id in ids.items():
            expected = [f"Answer to {person} {number}" for number in range(MESSAGES)]

            def answers(of: str = conversation_id) -> list[str]:
                return [one.content for one in fleet.stack.sandbox.messages(of) if one.sender_kind == "agent"]

            await fleet.stack.until(lambda: len(answers()) >= MESSAGES, timeout=60)
            assert list(dict.fromkeys(answers())) == expected
        shortened = 0
        for request in fleet.models.requests:
            person, _, number = question(request).partition(" ")
            whole, shown = conversation(person, int(number)), turns(request)
            assert shown == whole[-len(shown) :], "nothing else, and in this order"
            shortened += len(shown) < len(whole)
        assert shortened >= 1, "the one that was too long"
