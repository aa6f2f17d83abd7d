"""What a handler gives becomes parts with numbers and ids of their own, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from supervisor.core.records import NewReply
from supervisor.core.states import MessageState
from supervisor.handler import Reply, Usage
from supervisor.messages.notices import APOLOGY
from supervisor.messages.reply_ids import reply_id, with_reply_id
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.journaling import add, answer
from tests.support.messaging import counted, worked, works


async def test_parts_of_a_stream_are_journaled_as_they_come(scope: Scope, journal: Journal) -> None:
    seen: list[list[str]] = []

    async def stream(message: Any, ctx: Any) -> AsyncIterator[str]:
        yield "one"
        seen.append(await made.said(row.id))
        await ctx.send("two")
        seen.append(await made.said(row.id))
        yield "three"

    row = await add(journal, "m1")
    async with works(scope, stream) as made:
        await worked(made.executor, row)
        assert seen == [["one"], ["one", "two"]]
        assert await made.said(row.id) == ["one", "two", "three"]
        ids = [reply.message.id for reply in await journal.replies(row.id)]
        assert ids == [reply_id(row, part) for part in range(3)]


async def test_of_several_parts_of_a_plain_function_the_last_waits_for_the_settling(
    scope: Scope, journal: Journal
) -> None:
    seen: list[tuple[list[str], MessageState]] = []

    async def parts(message: Any, ctx: Any) -> Any:
        async def more() -> AsyncIterator[str]:
            yield "one"
            yield "two"
            seen.append((await made.said(row.id), (await made.row(row.id)).state))

        return more()

    row = await add(journal, "m1")
    async with works(scope, parts) as made:
        await worked(made.executor, row)
        assert seen == [(["one"], MessageState.RUNNING)]
        assert await made.said(row.id) == ["one", "two"]


async def test_a_second_attempt_makes_no_part_again(scope: Scope, journal: Journal) -> None:
    """The process died after the first part: that part is in the outbox."""

    async def stream(message: Any, ctx: Any) -> AsyncIterator[str]:
        yield "made anew"
        yield "two"

    row = await add(journal, "m1", claim=True)
    first = with_reply_id(answer("one").message, row, 0)
    kept = await journal.add_reply(row.agent_id, row.id, NewReply(0, first))
    await journal.maintenance.rescue(row.agent_id)
    [again] = await journal.unsettled(row.agent_id, after_id=0, limit=10)
    async with works(scope, stream) as made:
        await worked(made.executor, again)
        assert await made.said(row.id) == ["one", "two"]
        assert kept.id in {reply.id for reply in await journal.replies(row.id)}


async def test_a_reply_that_the_platform_would_refuse_is_a_dead_letter(scope: Scope, journal: Journal) -> None:
    async def huge(message: Any, ctx: Any) -> str:
        return "x" * 2_000_000

    row = await add(journal, "m1")
    async with works(scope, huge, max_attempts=5) as made:
        assert await worked(made.executor, row) is None
        kept = await made.row(row.id)
        assert kept.state is MessageState.DEAD
        assert "InvalidReplyError" in (kept.error or "")
        assert await made.said(row.id) == [APOLOGY]


async def test_usage_goes_with_the_next_answer_and_is_counted_once(scope: Scope, journal: Journal) -> None:
    async def spends(message: Any, ctx: Any) -> AsyncIterator[Any]:
        ctx.usage(10, 5, model="small")
        ctx.usage(1, 2, model="large", cached_tokens=1)
        yield "one"
        yield "two"
        yield Reply("three", usage=Usage(3, 4, "own"))

    row = await add(journal, "m1")
    async with works(scope, spends) as made:
        await worked(made.executor, row)
        used = [reply.message.usage for reply in await journal.replies(row.id)]
        assert [None if one is None else (one.prompt_tokens, one.completion_tokens) for one in used] == [
            (11, 7),
            None,
            (3, 4),
        ]
        assert made.profile.spending.budget().spent_tokens == 25


async def test_a_message_without_an_answer_is_done(scope: Scope, journal: Journal) -> None:
    async def silent(message: Any, ctx: Any) -> None:
        return None

    row = await add(journal, "m1")
    async with works(scope, silent) as made:
        await worked(made.executor, row)
        assert (await made.row(row.id)).state is MessageState.DONE
        assert await made.said(row.id) == []
        assert counted(scope.metrics, "supervisor_messages_handled_total", "outcome") == {"done": 1}
