"""An agent is removed while the journal refuses: its messages are cancelled once it does not, unless it is back."""

from __future__ import annotations

from pathlib import Path

from supervisor.core.states import MessageState
from tests.support.paper_play import AGENT, Play, play

STUCK = "import asyncio\nasync def on_message(message, ctx):\n    await asyncio.Event().wait()\n"


async def with_two_messages(script: Play) -> None:
    """Let an agent be paused for which two messages wait."""
    await script.add(handler="stuck")
    await script.loop.advance(1)
    for text in ("one", "two"):
        assert script.say(text)
        await script.loop.advance(1)
    await script.change(handler="stuck", paused=True)
    await script.loop.advance(10)
    assert states(script) == [MessageState.AVAILABLE] * 2


async def remove_unwritable(script: Play) -> None:
    """Remove the agent as another program would, with a database that settles nothing from then on."""
    script.fleet.sql(f"DELETE FROM agents WHERE id = '{AGENT}'")
    script.fleet.refuse("settling")
    await script.loop.complete(script.fleet.service.fleet.reconcile())
    await script.loop.advance(20)


def states(script: Play) -> list[MessageState]:
    return [row.state for row in script.fleet.inbox()]


def events(script: Play) -> list[str]:
    return [line["event"] for line in script.logged("messages_not_cancelled", "messages_cancelled")]


def test_a_removed_agents_messages_are_cancelled_once_the_journal_takes_it(tmp_path: Path) -> None:
    async def removed(script: Play) -> None:
        await with_two_messages(script)
        await remove_unwritable(script)
        assert states(script) == [MessageState.AVAILABLE] * 2
        assert events(script) == ["messages_not_cancelled"], "once, however often it is tried"
        script.fleet.mend()
        await script.loop.advance(5.1)
        assert states(script) == [MessageState.CANCELLED] * 2
        assert events(script) == ["messages_not_cancelled", "messages_cancelled"]

    play(tmp_path, removed, handlers={"stuck": STUCK})


def test_an_agent_that_is_added_again_meanwhile_keeps_its_messages(tmp_path: Path) -> None:
    async def back(script: Play) -> None:
        await with_two_messages(script)
        await remove_unwritable(script)
        script.fleet.mend()
        await script.add(handler="echo")
        await script.loop.advance(20)
        assert script.answers == ["Echo: one", "Echo: two"]
        assert events(script) == ["messages_not_cancelled"]

    play(tmp_path, back, handlers={"stuck": STUCK})


def test_a_stop_does_not_wait_for_it_and_the_next_start_cancels(tmp_path: Path) -> None:
    async def stopped(script: Play) -> None:
        await with_two_messages(script)
        await remove_unwritable(script)
        began = script.loop.time()
        assert await script.loop.complete(script.fleet.service.fleet.stop(60))
        assert script.loop.time() - began < 5, "all ended by themselves, not at the end of the grace"
        script.fleet.mend()
        await script.loop.complete(script.fleet.registry.journal.maintenance.cancel_removed())
        assert states(script) == [MessageState.CANCELLED] * 2

    play(tmp_path, stopped, handlers={"stuck": STUCK})
