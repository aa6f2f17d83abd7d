"""R17: two agents answer each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.core.states import AgentState, MessageState
from tests.support.reliability import Case
from tests.support.stack import stack

LIMIT = 20
CHATTY = '''
"""Answers everybody, and joins where it is told to."""

async def on_message(message, ctx):
    command, _, argument = message.content.partition(" ")
    if command == "join":
        await ctx.join(argument)
        return "joined"
    return f"{ctx.agent.name} answers"
'''


async def test_r17_two_agents_that_answer_each_other_are_stopped(
    tmp_path: Path,
    case: Callable[[str], Case],
    log: Callable[[], list[dict[str, Any]]],
) -> None:
    figures = case("R17")
    handlers = tmp_path / "handlers"
    handlers.mkdir()
    (handlers / "chatty.py").write_text(CHATTY)
    settings = {"roles": ["user", "assistant"]}
    async with stack(tmp_path, agents_dir=handlers) as fleet:
        first = await fleet.add(1, "chatty", settings=settings, name="One")
        second = await fleet.add(2, "chatty", settings=settings, name="Two")
        await fleet.online(2)
        user = await fleet.sandbox.user()
        conversation, other = await user.open(first), await user.open(second)
        joined = await user.say(other, f"join {conversation}")
        await user.wait_for_reply(other, after=joined)
        await user.say(conversation, "begin")
        figures.faults += 1
        inboxes = {one: fleet.service.fleet.runner(one).agent.pipeline.inbox for one in (first, second)}
        await fleet.until(lambda: all(inbox.dead for inbox in inboxes.values()) or _quiet(inboxes), timeout=30)
        await fleet.until(lambda: _quiet(inboxes))
        said = [message.content for message in fleet.sandbox.messages(conversation)]
        figures.messages = len(said)
        # Each answers the person once and the other as often as the limit allows.
        assert LIMIT < said.count("One answers") + said.count("Two answers") <= 2 * (LIMIT + 1)
        assert {status.state for status in fleet.service.control.statuses()} == {AgentState.ONLINE}
        # A person is answered all the same, and at once.
        again = await user.say(conversation, "hello?")
        await user.wait_for_reply(conversation, after=again)
        stopped = await fleet.service.registry.journal.messages(states=[MessageState.DEAD], limit=1000)
        assert stopped
        assert {(row.error or "").partition(":")[0] for row in stopped} == {"loop guard"}
    warned = [(line["agent"], line["conversation"]) for line in log() if line["event"] == "loop_guard"]
    assert warned
    assert len(warned) == len(set(warned)), "one warning"


def _quiet(inboxes: dict[str, Any]) -> bool:
    return any(inbox.dead for inbox in inboxes.values()) and not any(inbox.waiting for inbox in inboxes.values())
