"""Whether joins are acknowledged is learned from a platform that lives, and not from one that is ill."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, cast

import pytest

from supervisor.core.errors import AckTimeoutError
from supervisor.core.tasks import TaskSet
from supervisor.platform.heartbeats import quiet_pulse
from supervisor.platform.hosts.facts import SILENCES, SocketFacts
from supervisor.platform.joiner import JOIN, Joiner
from supervisor.platform.questions import ONLINE, Questions
from supervisor.platform.transport import Socket
from tests.support.virtual import VirtualLoop, run

SECONDS = 5.0


class Platform:
    """Acknowledges what it is told to, and has a joiner at its other end; stands where a socket stands."""

    def __init__(self, *acks: str) -> None:
        self.acks = set(acks)
        self.asked: list[str] = []
        self.emitted: list[str] = []
        self.facts = SocketFacts()
        self._tasks = TaskSet()
        self.joiner = Joiner(
            lambda conversation, timeout: self.call(JOIN, {"conversationId": conversation}, timeout),
            self.emitted.append,
            self.facts,
            Questions(lambda: cast("Socket", self), self.facts, quiet_pulse()),
            self._start,
        )

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(work, name)

    async def call(self, event: str, payload: Mapping[str, Any], timeout: float) -> object:
        self.asked.append(event)
        if event not in self.acks:
            await asyncio.sleep(timeout)
            raise AckTimeoutError(f"{event} was not acknowledged within {timeout:g} s")
        return {"success": True}


def test_who_never_acknowledges_is_not_waited_for_until_it_does() -> None:
    async def live(loop: VirtualLoop) -> None:
        platform = Platform(ONLINE)
        for number in range(SILENCES):
            assert not platform.facts.never_acks(JOIN), number
            with pytest.raises(AckTimeoutError):
                await loop.complete(platform.joiner.join("c", SECONDS))
            await loop.settle()
        assert platform.facts.never_acks(JOIN)
        began, asked = loop.time(), platform.asked.count(JOIN)
        for conversation in ("one", "two", "three"):
            assert await platform.joiner.join(conversation, SECONDS) is False
        await loop.settle()
        # One of them tries whether it is acknowledged by now.
        assert (loop.time(), platform.asked.count(JOIN), platform.emitted) == (began, asked + 1, ["two", "three"])
        await loop.advance(SECONDS)
        platform.acks.add(JOIN)
        assert await platform.joiner.join("four", SECONDS) is False
        await loop.settle()
        assert await loop.complete(platform.joiner.join("five", SECONDS)) is True
        assert platform.emitted == ["two", "three"]

    run(live)


def test_an_ill_platform_is_waited_for() -> None:
    async def live(loop: VirtualLoop) -> None:
        silent, knows_them = Platform(), Platform(ONLINE, JOIN)
        assert await loop.complete(knows_them.joiner.join("c", SECONDS)) is True
        knows_them.acks.discard(JOIN)
        for platform in (silent, knows_them):
            for _ in range(2 * SILENCES):
                with pytest.raises(AckTimeoutError):
                    await loop.complete(platform.joiner.join("c", SECONDS))
                await loop.advance(2 * SECONDS)
            assert not platform.facts.never_acks(JOIN)
            assert platform.emitted == []

    run(live)
