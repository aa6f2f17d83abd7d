"""What is asked to prove a socket: what a platform answers, one question after the other, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, cast

import pytest

from supervisor.core.errors import AckTimeoutError, PlatformError, Verdict
from supervisor.core.records import Sleep
from supervisor.platform.heartbeats import Pulse, Task, quiet_pulse
from supervisor.platform.hosts.facts import SILENCES, SocketFacts
from supervisor.platform.questions import HEARTBEAT, NEXT_SECONDS, ONLINE, TYPING, Questions
from supervisor.platform.transport import Socket
from tests.support.virtual import VirtualLoop, run


class Platform:
    """Acknowledges some events at once and the others never; stands where a socket stands."""

    def __init__(self, acks: Collection[str], answer: Mapping[str, Any] | None = None) -> None:
        self._acks = acks
        self._answer = answer or {"success": True}
        self.asked: list[str] = []
        self.said: list[Mapping[str, Any]] = []

    async def call(self, event: str, payload: Mapping[str, Any], timeout: float) -> object:
        self.asked.append(event)
        self.said.append(payload)
        if event not in self._acks:
            await asyncio.sleep(timeout)
            raise AckTimeoutError(f"{event} was not acknowledged within {timeout:g} s")
        return self._answer

    def questions(self, facts: SocketFacts, pulse: Pulse | None = None) -> Questions:
        return Questions(lambda: cast("Socket", self), facts, pulse or quiet_pulse())


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


def test_an_older_socket_can_be_asked_without_a_heartbeat() -> None:
    async def live(loop: VirtualLoop) -> None:
        facts, platform = SocketFacts(), Platform((TYPING, HEARTBEAT))
        facts.answered(HEARTBEAT)
        assert await loop.complete(platform.questions(facts).any_answer(5.0, beats=False)) == TYPING
        assert HEARTBEAT not in platform.asked
        with pytest.raises(AckTimeoutError):
            await loop.complete(Platform((HEARTBEAT,)).questions(SocketFacts()).any_answer(5.0, beats=False))

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


def test_a_heartbeat_that_asks_says_what_the_agent_says_and_hands_on_what_it_brings() -> None:
    async def live(loop: VirtualLoop) -> None:
        given: list[Task] = []
        asleep: list[Sleep] = []
        pulse = Pulse(
            takes_tasks=lambda: True,
            working=lambda: False,
            sleep=lambda: asleep[0] if asleep else None,
            on_task=given.append,
        )
        platform = Platform((HEARTBEAT,), {"success": True, "work": {"id": "w1", "title": "Tidy up"}})
        questions = platform.questions(SocketFacts(), pulse)
        assert await loop.complete(questions.any_answer(5.0)) == HEARTBEAT
        assert (platform.said[-1], [task.id for task in given]) == ({"status": "idle", "mcpConnected": True}, ["w1"])
        asleep.append(Sleep(0.0, reason="told to"))
        await loop.complete(questions.any_answer(5.0))
        assert (platform.said[-1]["status"], platform.said[-1]["sleep"]["reason"]) == ("sleep", "told to")

    run(live)


def test_a_heartbeat_that_is_refused_is_an_answer_and_its_senders_error() -> None:
    async def live(loop: VirtualLoop) -> None:
        facts = SocketFacts()
        platform = Platform((HEARTBEAT,), {"success": False, "error": "Agent is suspended. Heartbeat rejected."})
        assert await loop.complete(platform.questions(facts).any_answer(5.0)) == HEARTBEAT
        with pytest.raises(PlatformError, match="suspended") as refused:
            await loop.complete(platform.questions(facts).beat(5.0))
        assert (refused.value.verdict, facts.acks(HEARTBEAT)) == (Verdict.REJECT, True)
        assert platform.said[-1] == {"status": "busy", "mcpConnected": False}, "who only asks wants no work"

    run(live)
