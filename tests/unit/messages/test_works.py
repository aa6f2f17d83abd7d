"""Works and reminders become messages, once each, and no work is asked for after one was left undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from supervisor.core.states import MessageState
from supervisor.messages.executor import MessageExecutor
from supervisor.messages.scope import Scope
from supervisor.messages.works import as_message
from supervisor.platform.heartbeats import Task
from supervisor.protocol.inbound import TaskFacts, is_task
from tests.support.journaling import AGENT
from tests.support.messaging import until, worked, works
from tests.support.work_desk import WorkDesk

WORK = Task("work", "w1", "Tidy up, now.", {"title": "Tidy\nup", "type": "task", "priorityLevel": 2})
REMINDER = Task("reminder", "r1", "Water the plants")


@pytest.fixture
async def desk(scope: Scope) -> AsyncIterator[WorkDesk]:
    made = WorkDesk(scope)
    yield made
    await made.works.close()
    await made.inbox.close()


def test_a_task_is_a_message_of_its_own_kind() -> None:
    message = as_message(WORK)
    assert (message.source, message.content, message.role, message.id) == ("work", "Tidy up, now.", "user", "work:w1")
    assert message.task == TaskFacts(id="w1", title="Tidy up", type="task", priority_level=2)
    assert not message.said
    assert is_task(message.conversation_id)
    assert as_message(Task("work", "w1", " ", {"title": "Tidy"})).content == "Tidy"
    assert as_message(Task("work", "w1", "", {"priorityLevel": 2**60})).task == TaskFacts(id="w1")


async def test_each_comes_once_however_often_it_is_brought(desk: WorkDesk) -> None:
    for task in (REMINDER, REMINDER, WORK, REMINDER):
        await desk.take(task)
    assert [row.message.source for row in desk.given] == ["reminder", "work"]
    assert desk.works.open, "a reminder that comes again is no work that was left undone"
    assert len(desk.inbox.conversations) == 0


async def test_a_work_that_comes_again_was_left_undone(desk: WorkDesk) -> None:
    await desk.take(WORK)
    with structlog.testing.capture_logs() as log:
        await desk.take(WORK)
    assert [(line["event"], line["number"]) for line in log] == [("work_undone", "work:w1")]
    assert (desk.works.undone, desk.works.open) == ("w1", False)
    desk.works.resume()
    await until(lambda: desk.works.open)
    assert len(desk.given) == 1


async def test_a_full_inbox_refuses_a_work_without_a_word_to_anybody(desk: WorkDesk) -> None:
    desk.limit = 0
    await desk.take(WORK)
    assert desk.full == []
    desk.limit = 10
    await desk.take(WORK)
    assert [row.message.source for row in desk.given] == ["work"]


async def test_nobody_hears_what_a_handler_makes_of_a_work_not_even_that_it_failed(scope: Scope) -> None:
    async def on_message(message, ctx):  # type: ignore[no-untyped-def]
        await ctx.send("so far")
        ctx.typing()
        ctx.mark_read()
        assert await ctx.online_users() == []
        if message.task.id == "w2":
            raise RuntimeError("no")
        return "done"

    async with works(scope, on_message, max_attempts=1) as made:
        executor: MessageExecutor = made.executor
        for number, state in ((1, MessageState.DONE), (2, MessageState.DEAD)):
            message = as_message(Task("work", f"w{number}", "Tidy up"))
            row = await made.journal.add(AGENT, message, key=str(message.id), received_at=0.0, claim=True)
            assert row is not None
            await asyncio.wait_for(worked(executor, row), 10)
            assert (await made.row(row.id)).state is state
            assert await made.said(row.id) == []
