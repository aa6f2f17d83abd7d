"""What a handler sees of the supervisor."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import ConnectionLostError, SupervisorError
from supervisor.messages.context import AgentContext
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.clock import ManualClock
from tests.support.journaling import add
from tests.support.messaging import profile_of, worked, works


def test_before_the_first_token_there_is_nothing_of_the_platform(scope: Scope) -> None:
    context = AgentContext(profile_of(scope, model="small"))
    assert context.agent.name == "Ann"
    assert context.settings == {"model": "small"}
    assert (context.mcp_servers, context.deployment, list(context.allowed_functions)) == ({}, None, [])
    with pytest.raises(SupervisorError):
        context.token()


def test_a_handler_may_ask_for_secrets_and_say_how_it_is(scope: Scope) -> None:
    profile = profile_of(scope)
    context = AgentContext(profile)
    assert context.secret("env:AGENT_SECRET") == "s3cret-of-ann"
    context.note_health("s3cret-of-ann was refused")
    assert str(profile.health) == "failing: [redacted] was refused"
    context.note_health(None)
    assert not profile.health.failing


async def test_a_message_is_named_the_same_in_every_attempt(scope: Scope, journal: Journal, clock: ManualClock) -> None:
    seen: list[tuple[str, str]] = []

    async def looks(message: Any, ctx: Any) -> None:
        seen.append((ctx.conversation, ctx.idempotency_key))
        assert 0 < ctx.deadline - clock.now() <= 30
        if len(seen) == 1:
            raise ValueError("again")

    row = await add(journal, "m1")
    async with works(scope, looks, timeout_seconds=30, max_attempts=2) as made:
        await worked(made.executor, row)
        await worked(made.executor, row)
        other = await add(journal, "m2")
        await worked(made.executor, other)
    assert seen[0] == seen[1]
    assert seen[2][1] != seen[0][1]


async def test_what_needs_a_connection_says_so_without_one(scope: Scope, journal: Journal) -> None:
    async def reaches_out(message: Any, ctx: Any) -> None:
        ctx.typing()
        ctx.mark_read()
        for call in (ctx.online_users(), ctx.join("c2"), ctx.leave("c2")):
            with pytest.raises(ConnectionLostError):
                await call
        assert [item.content for item in await ctx.history()] == ["hello"]

    row = await add(journal, "m1")
    async with works(scope, reaches_out, max_attempts=1) as made:
        await worked(made.executor, row)
        assert (await made.row(row.id)).error is None


async def test_what_a_handler_remembers_is_there_at_the_next_message_and_goes_with_the_conversation(
    scope: Scope, journal: Journal
) -> None:
    seen: list[tuple[str | None, list[str]]] = []

    async def remembers(message: Any, ctx: Any) -> None:
        known, said = await ctx.remembered(), await ctx.history()
        behind = known.behind(said) if known else said
        seen.append((known and known.text, [item.content for item in behind]))
        assert await ctx.remember(f"up to {message.content}", said)
        with pytest.raises(ValueError, match=r"100,001 characters; 100,000 are allowed"):
            await ctx.remember("x" * 100_001, said)

    async with works(scope, remembers, max_attempts=1) as made:
        for number, text in enumerate(("one", "two", "three"), start=1):
            row = await add(journal, f"m{number}", content=text, at=100.0 * number)
            await worked(made.executor, row)
            assert (await made.row(row.id)).error is None
            kept = await journal.summaries.of(row.agent_id, row.conversation_id)
            # As old as the oldest that went into it, through each that it took the place of.
            assert kept is not None
            assert (kept.up_to_id, kept.since) == (row.id, 100.0)
        await journal.maintenance.purge(row.agent_id, row.conversation_id)
        await worked(made.executor, await add(journal, "m4", content="four", at=400.0))
    assert seen == [(None, ["one"]), ("up to one", ["two"]), ("up to two", ["three"]), (None, ["four"])]
