"""Trouble that costs neither conversations nor quiet: joins that fail, a journal that cannot, hosts that go away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import structlog

from supervisor.core.states import AgentState
from supervisor.messages import inbox
from supervisor.sandbox import SandboxUser
from supervisor.store.sqlite import Sqlite
from tests.support.observing import figures
from tests.support.stack import SECRET, Stack, agent_id, stack

V2 = {"profile": "v2"}


@contextmanager
def captured_logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as log:
        yield log


def lines(log: list[Any], *names: str) -> list[Any]:
    return [entry for entry in log if entry["event"] in names]


async def conversations(fleet: Stack, identity: str, number: int) -> list[tuple[SandboxUser, str]]:
    """So many people who have each been answered once."""
    pairs = []
    for _ in range(number):
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await hears(user, conversation, "before")
        pairs.append((user, conversation))
    return pairs


async def hears(user: SandboxUser, conversation: str, text: str, timeout: float = 10.0) -> None:
    message = await user.say(conversation, text)
    [reply] = await user.wait_for_reply(conversation, after=message, timeout=timeout)
    assert reply.content == f"Echo: {text}"


def joined(fleet: Stack) -> list[str]:
    return [e.fields["conversation_id"] for e in fleet.sandbox.events if e.kind == "join" and e.agent_id]


def listed(fleet: Stack) -> float:
    """How many lists of conversations were answered."""
    return figures(fleet.service.metrics)['supervisor_conversation_lists_total{outcome="ok"}']


async def reconnected(fleet: Stack, identity: str) -> None:
    """The agent is kicked, and online again over another connection."""
    before = fleet.service.fleet.runner(identity).agent.connection
    fleet.sandbox.kick(identity)
    await fleet.until(
        lambda: (
            fleet.service.control.status(identity).state is AgentState.ONLINE
            # For a moment after the kick it has none.
            and fleet.service.fleet.runner(identity).agent.connection not in (before, None)
        )
    )


async def test_joins_refused_for_a_passing_reason_are_tried_again_and_final_ones_forgotten(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings=V2) as fleet:
        identity = await fleet.add()
        await fleet.online()
        [(user, conversation)] = await conversations(fleet, identity, 1)
        known = fleet.service.fleet.runner(identity).agent.pipeline.inbox.conversations
        gone = "f" * 24
        await known.joined(gone)
        fleet.sandbox.faults.refuse_events(["conversation:join"], "Database is down")
        with captured_logs() as log:
            await reconnected(fleet, identity)
            await fleet.until(lambda: lines(log, "conversations_not_joined"))
            fleet.sandbox.faults.clear()
            await fleet.until(lambda: gone not in known)
            await fleet.until(lambda: lines(log, "conversations_joined"))
        assert len(lines(log, "conversations_not_joined")) == 1
        await hears(user, conversation, "after")
        journal = fleet.service.registry.journal
        await journal.flush()
        assert [known for known, _ in await journal.conversations(identity, since=0.0, limit=10)] == [conversation]


async def test_a_connection_lost_while_it_joins_is_a_failed_attempt(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings=V2) as fleet:
        identity = await fleet.add()
        await fleet.online()
        [(user, conversation)] = await conversations(fleet, identity, 1)
        fleet.sandbox.faults.drop_acks(events=["conversation:join"])
        before = len(joined(fleet))
        fleet.sandbox.kick(identity)
        await fleet.until(lambda: len(joined(fleet)) > before)
        assert fleet.service.control.status(identity).state is not AgentState.ONLINE
        fleet.sandbox.faults.clear()
        fleet.sandbox.kick(identity)
        await fleet.state(identity, AgentState.BACKOFF)
        await fleet.online()
        await hears(user, conversation, "after")


async def test_v1_joins_what_the_platform_does_not_put_it_back_into(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await conversations(fleet, identity, 1)
        other = "e" * 24
        await fleet.service.fleet.runner(identity).agent.pipeline.inbox.conversations.joined(other)
        await reconnected(fleet, identity)
        # A join that takes long is no longer waited for.
        await fleet.until(lambda: joined(fleet))
        assert joined(fleet) == [other], "its own conversation needs no join"


async def test_what_was_joined_and_left_is_remembered_over_reconnects_and_restarts(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings=V2) as fleet:
        identity = await fleet.add()
        await fleet.online()
        (_, kept), (_, left) = await conversations(fleet, identity, 2)
        known = fleet.service.fleet.runner(identity).agent.pipeline.inbox.conversations
        await known.left(left)
        await known.left(kept)
        await known.joined(kept)
        # The list may have told of either before anybody was heard in it.
        before = len(joined(fleet))
        lists = listed(fleet)
        await reconnected(fleet, identity)
        await fleet.until(lambda: listed(fleet) > lists)
        assert joined(fleet)[before:] == [kept]
        await fleet.restart()
        await fleet.online()
        await fleet.until(lambda: listed(fleet))
        assert joined(fleet)[before:] == [kept, kept]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another program keeps the registry's file to itself."""
    with closing(sqlite3.connect(folder / "supervisor.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def test_a_journal_that_cannot_write_says_so_once_and_once_that_it_can(tmp_path: Path) -> None:
    async with stack(tmp_path, dialect=Sqlite(busy_seconds=0.1)) as fleet:
        identity = await fleet.add()
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        with captured_logs() as log:
            with locked(tmp_path):
                message = await user.say(conversation, "hello")
                await fleet.until(lambda: lines(log, "journal_cannot_write"))
                failures = "supervisor_journal_errors_total"
                await fleet.until(lambda: figures(fleet.service.metrics)[failures] > 2)
            [reply] = await user.wait_for_reply(conversation, after=message)
            await fleet.until(lambda: lines(log, "journal_writes_again"))
        assert reply.content == "Echo: hello"
        [began] = lines(log, "journal_cannot_write")
        [ended] = lines(log, "journal_writes_again")
        assert "locked" in began["reason"]
        assert began["journal"] == str(tmp_path / "supervisor.db")
        assert ended["failures"] > 1


async def test_one_change_that_the_database_refuses_is_no_outage_of_the_journal(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        with closing(sqlite3.connect(tmp_path / "supervisor.db")) as sql:
            sql.execute("CREATE TRIGGER no BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'not this one'); END")
            sql.commit()
        with captured_logs() as log:
            user = await fleet.sandbox.user()
            await user.say(await user.open(identity), "hello")
            await fleet.until(lambda: lines(log, "message_not_journaled"))
        assert not lines(log, "journal_cannot_write", "journal_writes_again")


async def test_a_stop_ends_in_time_with_a_locked_database(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        loop = asyncio.get_running_loop()
        with captured_logs() as log, locked(tmp_path):
            for number in range(3):
                await user.say(conversation, f"m{number}")
            await fleet.until(lambda: fleet.service.fleet.runner(identity).agent.pipeline.inbox.waiting == 3)
            started = loop.time()
            await fleet.service.stop(1)
            took = loop.time() - started
        assert took < 1 + 10 + 3
        [lost] = lines(log, "messages_not_journaled")
        assert lost["count"] == 3
        assert not [t for t in asyncio.all_tasks() if "inbox" in t.get_name() or "journal" in t.get_name()]
        body, _ = fleet.service.metrics.render("text/plain")
        assert b'supervisor_messages_dropped_total{reason="not_journaled"} 3.0' in body


async def test_an_inbox_that_closes_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    assert inbox.CLOSE_SECONDS <= 5
    async with stack(tmp_path, dialect=Sqlite(busy_seconds=0.1)) as fleet:
        identity = await fleet.add()
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        with captured_logs() as log, locked(tmp_path):
            await user.say(conversation, "hello")
            await fleet.until(lambda: fleet.service.fleet.runner(identity).agent.pipeline.inbox.waiting)
            pipeline = fleet.service.fleet.runner(identity).agent.pipeline
            async with asyncio.timeout(3):
                await pipeline.inbox.close(0.2)
            assert pipeline.lanes.running == 0, "the place that was reserved is free again"
        assert [entry["count"] for entry in lines(log, "messages_not_journaled")] == [1]


def lines_to_come() -> bool:
    """Whether an agent's own line is held for a moment, because others may be about to follow."""
    return any(task.get_name() == "outages" for task in asyncio.all_tasks())


async def test_one_outage_of_a_host_with_ten_agents_is_two_lines(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        for number in range(1, 11):
            await fleet.add(number)
        await fleet.online(10)
        with captured_logs() as log:
            await fleet.sandbox.stop()
            await fleet.until(lambda: "down for 10 agents" in "".join(fleet.service.control.overview().notices))
            await fleet.until(lambda: not lines_to_come())
            await fleet.sandbox.start()
            await fleet.online(10, timeout=20)
            await fleet.until(lambda: not lines_to_come())
        told = [entry["event"] for entry in log if entry["log_level"] != "debug"]
        assert told == ["host_down", "host_back"]


async def test_one_agent_that_stays_away_does_not_keep_its_host_down(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        for number in range(1, 11):
            await fleet.add(number)
        await fleet.online(10)
        fleet.sandbox.faults.rest("token", "hang", agents=[agent_id(1)])
        fleet.sandbox.faults.connect("kick", agents=[agent_id(1)])
        await fleet.sandbox.stop()
        await fleet.until(lambda: fleet.service.control.overview().notices)
        await fleet.sandbox.start()
        await fleet.online(9, timeout=20)
        await fleet.until(lambda: not fleet.service.control.overview().notices)
        assert fleet.service.control.status(agent_id(1)).state is not AgentState.ONLINE


async def test_a_message_of_an_unknown_type_is_counted_and_not_answered(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        conversation = fleet.sandbox.conversation_of(identity)
        poll = {"_id": "a" * 24, "conversationId": conversation, "role": "user", "content": "?", "type": "poll"}
        fleet.sandbox.emit(identity, "message:new", poll)
        fleet.sandbox.emit(identity, "message:new", {**poll, "_id": "b" * 24, "type": "text", "content": "!"})
        await fleet.until(lambda: [m for m in fleet.sandbox.messages(conversation) if m.content == "Echo: !"])
        assert not [m for m in fleet.sandbox.messages(conversation) if m.content == "Echo: ?"]
        body, _ = fleet.service.metrics.render("text/plain")
        assert b'supervisor_unknown_total{kind="message_type"} 1.0' in body
        assert b'supervisor_messages_dropped_total{reason="type"} 1.0' in body


async def test_a_v2_server_that_never_acks_settles_sends_once(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings=V2) as fleet:
        fleet.sandbox.faults.drop_acks(events=["message:send"])
        identity = await fleet.add()
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        texts = [f"m{number}" for number in range(5)]
        for text in texts:
            await hears(user, conversation, text)
        await fleet.until(lambda: fleet.service.fleet.runner(identity).agent.pipeline.outbox.waiting == 0)
        said = [m.content for m in fleet.sandbox.messages(conversation) if m.role == "assistant"]
        assert said == [f"Echo: {text}" for text in texts]
        body, _ = fleet.service.metrics.render("text/plain")
        assert b'supervisor_sends_total{outcome="acked"} 5.0' in body
        assert SECRET.encode() not in body
