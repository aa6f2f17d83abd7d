"""A handler's hooks beside its messages: told of what others do, bounded, and harmless when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import structlog

from supervisor.fleet.hooks import CLOSE_SECONDS, HOOK_SECONDS, Hooks
from supervisor.handler import Handler
from supervisor.handlers import DaemonThreads, MountedHandler, ThreadShare
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import Metrics
from tests.support.messaging import counted, dropped
from tests.support.virtual import VirtualLoop, run

AGENT, PERSON, ROOM = "a" * 24, "p" * 24, "c" * 24
TYPING = {"userId": PERSON, "type": "user", "conversationId": ROOM, "isTyping": True}


class Diary(Handler):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.work: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def on_message(self, message: Any, ctx: Any) -> None:
        return None

    async def on_typing(self, event: Any, ctx: Any) -> None:
        self.told.append("typing")
        if self.work is not None:
            await self.work()

    async def on_presence(self, event: Any, ctx: Any) -> None:
        self.told.append(event["status"])

    async def on_stop(self, ctx: Any) -> None:
        self.told.append("stop")


class Desk:
    """The hooks of one agent and such a handler, in virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop, self.metrics, self.diary = loop, Metrics(), Diary()
        log = get_logger("supervisor.agent").bind(agent=AGENT)
        self.hooks = Hooks(AGENT, self.metrics, lambda said: said.replace("xyzzy", "[redacted]"), log)
        threads = ThreadShare(DaemonThreads(1, "none"), 1)
        self.handler = MountedHandler("diary", self.diary, self.diary.on_message, threads)

    async def notify(self, event: str, payload: object) -> list[str]:
        """Tell of something that somebody did; all that the handler was told so far."""
        self.hooks.notify(self.handler, event, payload, None)
        await self.loop.settle()
        return self.diary.told


def on_desk(script: Callable[[Desk], Coroutine[Any, Any, None]]) -> list[Any]:
    """Play a script; what was logged."""

    async def main(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        await script(desk)
        await loop.complete(desk.hooks.close())
        assert len(asyncio.all_tasks()) == 1

    with structlog.testing.capture_logs() as log:
        run(main)
    return log


def test_what_others_do_is_told_in_the_words_of_their_events() -> None:
    async def script(desk: Desk) -> None:
        assert await desk.notify("user:typing", TYPING) == ["typing"]
        membership = {"userId": PERSON, "type": "user", "conversationId": ROOM}
        await desk.notify("user:joined", membership)
        assert await desk.notify("user:left", membership) == ["typing", "joined", "left"]

    assert on_desk(script) == []


def test_what_the_agent_itself_does_and_what_the_handler_has_no_hook_for_is_no_news() -> None:
    async def script(desk: Desk) -> None:
        own = {"agentId": AGENT, "type": "agent", "conversationId": ROOM, "isTyping": True}
        assert await desk.notify("agent:typing", own) == []
        read = {"conversationId": ROOM, "messageId": "m" * 24, "userId": PERSON, "readAt": "now"}
        assert await desk.notify("message:read", read) == []

    assert on_desk(script) == []


def test_what_is_not_known_or_cannot_be_read_is_counted() -> None:
    async def script(desk: Desk) -> None:
        assert await desk.notify("moon:landing", {}) == []
        assert counted(desk.metrics, "supervisor_unknown_total", "kind") == {"event": 1.0}
        assert await desk.notify("user:typing", "nonsense") == []
        assert sum(dropped(desk.metrics).values()) == 1

    assert on_desk(script) == []


def test_a_hook_that_fails_is_logged_without_secrets_and_the_next_runs() -> None:
    async def script(desk: Desk) -> None:
        async def fail() -> None:
            raise ValueError("with xyzzy")

        desk.diary.work = fail
        await desk.notify("user:typing", TYPING)
        desk.diary.work = None
        assert await desk.notify("user:typing", TYPING) == ["typing", "typing"]

    [line] = on_desk(script)
    assert (line["event"], line["handler"]) == ("hook_failed", "diary")
    assert "with [redacted]" in line["reason"]


def test_a_hook_that_hangs_is_ended_after_its_time() -> None:
    async def script(desk: Desk) -> None:
        desk.diary.work = asyncio.Event().wait  # type: ignore[assignment]
        await desk.notify("user:typing", TYPING)
        await desk.loop.advance(HOOK_SECONDS - 1)
        assert any(task.get_name() == f"hook {AGENT}" for task in asyncio.all_tasks())
        await desk.loop.advance(2)
        assert not any(task.get_name() == f"hook {AGENT}" for task in asyncio.all_tasks())

    assert [line["event"] for line in on_desk(script)] == ["hook_failed"]


def test_a_handler_is_stopped_once_its_last_message_is_done() -> None:
    async def script(desk: Desk) -> None:
        with desk.handler.working():
            desk.hooks.retire(desk.handler, None)
            await desk.loop.advance(10 * HOOK_SECONDS)
            assert desk.diary.told == []
        await desk.loop.settle()
        assert desk.diary.told == ["stop"]

    assert on_desk(script) == []


@pytest.mark.parametrize("idle", [True, False])
def test_a_close_waits_a_moment_for_what_runs_and_not_for_a_handler_that_is_never_idle(idle: bool) -> None:
    async def script(desk: Desk) -> None:
        began = desk.loop.time()
        if idle:
            desk.diary.work = asyncio.Event().wait  # type: ignore[assignment]
            await desk.notify("user:typing", TYPING)
            await desk.loop.complete(desk.hooks.close())
            assert desk.loop.time() - began == CLOSE_SECONDS
        else:
            with desk.handler.working():
                desk.hooks.retire(desk.handler, None)
                await desk.loop.settle()
                await desk.loop.complete(desk.hooks.close())
            assert (desk.loop.time(), desk.diary.told) == (began, [])

    on_desk(script)
