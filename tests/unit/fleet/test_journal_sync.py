"""What other processes did in the journal reaches the agents that run: replays, and messages that were settled."""

from __future__ import annotations

from pathlib import Path

from supervisor.core.states import MessageState
from supervisor.core.status import InboxCounts
from supervisor.fleet.journal_sync import JournalSync
from tests.support.journaling import add
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_platform import HOME
from tests.support.paper_play import AGENT, Play, play
from tests.support.stack import handler_module

BRITTLE = """
from supervisor.handler import Permanent

mended = []

async def on_message(message, ctx):
    if not mended:
        raise Permanent("broken")
    return f"fine: {message.content}"
"""
HANDLERS = {"diary": DIARY, "brittle": BRITTLE}


def sync(script: Play, *papers: PaperAgent) -> JournalSync:
    return JournalSync(script.shared.journal, lambda: {paper.agent.record.id: paper.pipeline for paper in papers})


async def bury(script: Play, paper: PaperAgent) -> None:
    """A message fails for good, and is replayed as another process would do it."""
    await script.loop.complete(paper.come_online())
    paper.pipeline.resume()
    script.say("hello")
    await script.loop.advance(1)
    assert paper.pipeline.counts == InboxCounts(0, 0, 1)
    journal = script.shared.journal
    rows = await script.loop.complete(journal.messages(states=[MessageState.DEAD]))
    assert await script.loop.complete(journal.dead_letters.replay_all(rows)) == [True]


def test_a_replayed_message_runs_again_and_the_counts_follow(tmp_path: Path) -> None:
    async def replays(script: Play) -> None:
        async with paper_agent(script, handler="brittle") as paper:
            await bury(script, paper)
            handler_module("brittle").mended.append(True)
            await script.loop.complete(sync(script, paper).take_up_replays())
            await script.loop.advance(1)
            rows = await script.loop.complete(script.shared.journal.messages(agent_id=AGENT))
            assert [(row.state, row.replay, row.attempts) for row in rows] == [(MessageState.DONE, 1, 1)]
            assert script.answers[-1] == "fine: hello"
            assert paper.pipeline.counts == InboxCounts(0, 0, 0)

    play(tmp_path, replays, handlers=HANDLERS)


def test_an_agent_that_has_not_read_the_journal_is_left_to_find_it_there(tmp_path: Path) -> None:
    async def replays(script: Play) -> None:
        async with paper_agent(script, handler="brittle") as paper:
            await bury(script, paper)
            await script.loop.complete(paper.disconnect())
            await script.loop.complete(paper.pipeline.close())
            await script.loop.complete(sync(script, paper).take_up_replays())
            await script.loop.advance(1)
            [row] = await script.loop.complete(script.shared.journal.messages(agent_id=AGENT))
            assert (row.state, row.replay, row.attempts) == (MessageState.AVAILABLE, 1, 0)

    play(tmp_path, replays, handlers=HANDLERS)


def test_what_nobody_here_runs_is_no_trouble(tmp_path: Path) -> None:
    async def replays(script: Play) -> None:
        async with paper_agent(script, handler="brittle") as paper:
            await bury(script, paper)
            await script.loop.complete(sync(script).take_up_replays())
            await script.loop.complete(sync(script).correct_counts())
            [row] = await script.loop.complete(script.shared.journal.messages(agent_id=AGENT))
            assert row.state is MessageState.AVAILABLE

    play(tmp_path, replays, handlers=HANDLERS)


def test_counts_are_corrected_by_the_journal(tmp_path: Path) -> None:
    async def corrects(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            journal = script.shared.journal
            for number in range(3):
                await script.loop.complete(add(journal, f"k{number}", agent=AGENT, conversation=HOME))
            row = await script.loop.complete(add(journal, "dead", agent=AGENT, claim=True))
            await script.loop.complete(journal.settle(row, MessageState.DEAD))
            await script.loop.complete(add(journal, "theirs", agent="f" * 24))
            paper.pipeline.inbox.correct(unsettled=99, dead=99)
            await script.loop.complete(sync(script, paper).correct_counts())
            assert paper.pipeline.counts == InboxCounts(3, 0, 1)

    play(tmp_path, corrects, handlers=HANDLERS)


def test_a_count_that_changes_while_the_journal_is_read_is_asked_for_again(tmp_path: Path) -> None:
    async def corrects(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            paper.pipeline.inbox.correct(unsettled=7, dead=0)
            correcting = script.loop.create_task(sync(script, paper).correct_counts())
            await script.loop.turns(1)
            # A message is settled while the figures of before are on their way.
            paper.pipeline.inbox.settled(dead=False)
            await script.loop.complete(correcting)  # type: ignore[arg-type]
            assert paper.pipeline.counts == InboxCounts(0, 0, 0)

    play(tmp_path, corrects, handlers=HANDLERS)
