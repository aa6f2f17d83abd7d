"""What is asked to prove a socket: what a platform answers, one question after the other, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, cast

import pytest

from supervisor.core.errors import AckTimeoutError
from supervisor.platform.hosts.facts import SILENCES, SocketFacts
from supervisor.platform.questions import HEARTBEAT, NEXT_SECONDS, ONLINE, TYPING, Questions
from supervisor.platform.transport import Socket
from tests.support.virtual import VirtualLoop, run


class Platform:
    """Acknowledges some events at once and the others never; stands where a socket stands."""

    def __init__(self, acks: Collection[str]) -> None:
        self._acks = acks
        self.asked: list[str] = []

    async def call(self, event: str, payload: Mapping[str, Any], timeout: float) -> object:
        self.asked.append(event)
        if event not in self._acks:
            await asyncio.sleep(timeout)
            raise AckTimeoutError(f"{event} was not acknowledged within {timeout:g} s")
        return {"success": True}

    def questions(self, facts: SocketFacts) -> Questions:
        return Questions(lambda: cast("Socket", self), facts)


@pytest.mark.parametrize(
    ("acks", "first", "later", "seconds"),
    [
        ((ONLINE, TYPING), [ONLINE], [ONLINE], 0.0),
        ((TYPING, HEARTBEAT), [ONLINE, TYPING], [TYPING], NEXT_SECONDS),
        ((HEARTBEAT,), [ONLINE, TYPING, HEARTBEAT], [HEARTBEAT], 2 * NEXT_SECONDS),
    ],
    ids=["v1 and v2", "the newest agents' gateway", "the agents' gateway before it"],
)
def test_the_next_question_is_asked_where_one_is_not_answered_soon(
    acks: tuple[str, ...], first: list[str], later: list[str], seconds: float
) -> None:
    async def live(loop: VirtualLoop) -> None:
        facts = SocketFacts()
        for turn in range(SILENCES):
            platform, began = Platform(acks), loop.time()
            answered = await loop.complete(platform.questions(facts).any_answer(5.0))
            assert (answered, loop.time() - began) == (first[-1], seconds if turn == 0 else loop.time() - began)
        platform, began = Platform(acks), loop.time()
        await loop.complete(platform.questions(facts).any_answer(5.0))
        assert (platform.asked, loop.time() - began) == (later, 0.0)

    run(live)


def test_a_platform_that_answers_nothing_is_no_proof_and_nothing_is_held_against_its_events() -> None:
    async def live(loop: VirtualLoop) -> None:
        facts, platform = SocketFacts(), Platform(())
        with pytest.raises(AckTimeoutError, match="nothing was acknowledged within 5 s"):
            await loop.complete(platform.questions(facts).any_answer(5.0))
        assert platform.asked == [ONLINE, TYPING, HEARTBEAT]
        assert [facts.acks(event) for event in platform.asked] == [None, None, None]
        # A platform that is rebuilt is asked all over again.
        for event in platform.asked:
            for _ in range(SILENCES):
                facts.unanswered(event)
        rebuilt = Platform((HEARTBEAT,))
        assert await loop.complete(rebuilt.questions(facts).any_answer(5.0)) == HEARTBEAT

    run(live)
