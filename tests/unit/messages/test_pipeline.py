"""One agent's messages from the socket to the acknowledged reply, over a paper platform in virtual time."""

from __future__ import annotations

from pathlib import Path

from supervisor.core.states import MessageState
from supervisor.core.status import InboxCounts
from supervisor.messages.executor import STOP_REASON
from supervisor.messages.notices import FULL_NOTICE
from supervisor.messages.settling import UNSETTLED_RETRY_SECONDS
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_platform import HOME
from tests.support.paper_play import AGENT, Play, play
from tests.support.stack import handler_module

GATED = """
import asyncio

gate, begun = asyncio.Event(), []

async def on_message(message, ctx):
    begun.append(message.content)
    await gate.wait()
    return f"late: {message.content}"
"""
HANDLERS = {"diary": DIARY, "gated": GATED}


async def online(script: Play, paper: PaperAgent) -> None:
    await script.loop.complete(paper.come_online())
    paper.pipeline.resume()


async def states(script: Play) -> list[MessageState]:
    rows = await script.loop.complete(script.shared.journal.messages(agent_id=AGENT))
    return [row.state for row in reversed(rows)]


def test_a_message_goes_its_whole_way_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def answers(script: Play) -> None:
        async with paper_agent(script) as paper:
            await online(script, paper)
            assert script.say("hello")
            await script.loop.advance(1)
            assert script.answers == ["dear diary: hello"]
            assert await states(script) == [MessageState.DONE]
            assert paper.pipeline.counts == InboxCounts(0, 0, 0)
            reading = paper.pipeline.reading
            assert (reading.pending, reading.sent, reading.oldest_at) == (0, 0, None)

    play(tmp_path, answers, handlers=HANDLERS)


def test_without_a_connection_messages_are_answered_and_the_replies_wait(tmp_path: Path) -> None:
    async def waits(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            await online(script, paper)
            script.say("hello")
            await script.loop.settle()
            await script.loop.complete(paper.disconnect())
            assert paper.pipeline.connection is None
            handler_module("gated").gate.set()
            await script.loop.advance(1)
            assert (await states(script), script.answers) == ([MessageState.DONE], [])
            assert paper.pipeline.reading.pending == 1
            await script.loop.complete(paper.connect())
            await script.loop.advance(1)
            assert script.answers == ["late: hello"]

    play(tmp_path, waits, handlers=HANDLERS)


def test_what_is_paused_starts_nothing_and_a_drain_waits_for_what_runs(tmp_path: Path) -> None:
    async def drains(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            await online(script, paper)
            script.say("one")
            await script.loop.settle()
            drained = script.loop.create_task(paper.pipeline.drain())
            script.say("two", conversation="d" * 24)
            await script.loop.advance(1)
            gated = handler_module("gated")
            assert (gated.begun, drained.done()) == (["one"], False)
            gated.gate.set()
            await script.loop.settle()
            assert drained.done()
            assert script.answers == ["late: one"], "its reply was out before the drain was over"
            paper.pipeline.resume()
            await script.loop.advance(1)
            assert script.answers == ["late: one", "late: two"]
            paper.pipeline.pause()
            script.say("three")
            await script.loop.advance(1)
            assert gated.begun == ["one", "two"]

    play(tmp_path, drains, handlers=HANDLERS)


def test_what_was_not_settled_at_a_close_is_taken_up_from_the_journal(tmp_path: Path) -> None:
    async def closes(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            await online(script, paper)
            script.say("hello")
            await script.loop.settle()
            assert (paper.pipeline.restored, await states(script)) == (True, [MessageState.RUNNING])
            await script.loop.complete(paper.disconnect())
            await script.loop.complete(paper.pipeline.close())
            assert (paper.pipeline.restored, await states(script)) == (False, [MessageState.AVAILABLE])
            handler_module("gated").gate.set()
            await script.loop.complete(paper.pipeline.restore())
            await script.loop.complete(paper.connect())
            paper.pipeline.resume()
            await script.loop.advance(1)
            assert script.answers == ["late: hello"]

    play(tmp_path, closes, handlers=HANDLERS)


def test_a_stop_ends_the_answer_that_is_made_and_nothing_that_was_said_later(tmp_path: Path) -> None:
    async def stops(script: Play) -> None:
        async with paper_agent(script, handler="gated") as paper:
            await online(script, paper)
            script.say("hello")
            await script.loop.settle()
            [row] = await script.loop.complete(script.shared.journal.messages(agent_id=AGENT))
            assert not await script.loop.complete(paper.pipeline.answers.stop(HOME, row.id - 1))
            assert not await script.loop.complete(paper.pipeline.answers.stop("d" * 24, row.id))
            assert await script.loop.complete(paper.pipeline.answers.stop(HOME, row.id))
            await script.loop.advance(1)
            [row] = await script.loop.complete(script.shared.journal.messages(agent_id=AGENT))
            assert (row.state, row.error) == (MessageState.CANCELLED, STOP_REASON)
            assert paper.pipeline.counts == InboxCounts(0, 0, 0)

    play(tmp_path, stops, handlers=HANDLERS)


def test_a_message_that_cannot_be_settled_is_looked_at_again(tmp_path: Path) -> None:
    async def refused(script: Play) -> None:
        async with paper_agent(script) as paper:
            await online(script, paper)
            script.fleet.refuse("settling")
            script.say("hello")
            await script.loop.advance(1)
            assert script.answers == []
            assert script.logged("message_not_settled")
            script.fleet.mend()
            await script.loop.advance(UNSETTLED_RETRY_SECONDS + 1)
            assert script.answers == ["dear diary: hello"]
            assert await states(script) == [MessageState.DONE]

    play(tmp_path, refused, handlers=HANDLERS)


def test_an_inbox_that_is_full_says_so(tmp_path: Path) -> None:
    async def full(script: Play) -> None:
        async with paper_agent(script, handler="gated", settings={"inbox_limit": 1}) as paper:
            await online(script, paper)
            for number in range(3):
                script.say(f"m{number}")
                await script.loop.settle()
            assert FULL_NOTICE in script.answers or HOME in script.platform.notices

    play(tmp_path, full, handlers=HANDLERS)


def test_what_the_platform_complains_of_is_logged_without_secrets_and_what_it_garbles_is_counted(
    tmp_path: Path,
) -> None:
    async def complains(script: Play) -> None:
        async with paper_agent(script) as paper:
            connection = await script.loop.complete(paper.come_online())
            token = paper.agent.profile.token
            paper.pipeline.receive(connection, "exception", {"message": f"bad token {token} " + "x" * 1000})
            paper.pipeline.receive(connection, "exception", "nonsense")
            paper.pipeline.receive(connection, "__malformed__", "not_json")
            first, second = script.logged("platform_exception")
            assert first["reason"].startswith("bad token [redacted] xxx")
            assert (len(first["reason"]), second["reason"]) == (200, "no message")
            body = script.shared.metrics.render("")[0].decode()
            assert 'supervisor_messages_dropped_total{reason="not_json"} 1.0' in body

    play(tmp_path, complains, handlers=HANDLERS)
