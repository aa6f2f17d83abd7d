"""``ctx.history``: the journal first and, before that, what the platform remembers of the conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.messages.commands import NOTHING_TO_STOP
from supervisor.sandbox import SandboxUser
from tests.support.observing import handlers_folder
from tests.support.stack import SECRET, Stack, agent_id, handler_module, stack

PROFILES = pytest.mark.parametrize("profile", ["v1", "v2"])
HANDLERS = {
    "recall": '''
"""Notes what it finds; how much it asks for stands after the text, "hello 5"."""
found = []

async def on_message(message, ctx):
    limit = int(message.content.partition(" ")[2] or 20)
    found.append(await ctx.history(limit))
    return f"noted {len(found)}"
'''
}
LONG_AGO = "2020-01-01T00:{minute:02}:{second:02}.000Z"


@dataclass
class Talk:
    """A conversation with an agent whose handler notes what it recalls."""

    fleet: Stack
    agent: str
    user: SandboxUser
    id: str

    async def told(self, count: int) -> None:
        """Wait until so many commands have their answers."""
        answers = ("Name: ", NOTHING_TO_STOP)
        messages = self.fleet.sandbox.messages
        await self.fleet.until(lambda: sum(one.content.startswith(answers) for one in messages(self.id)) == count)

    async def recalled(self, text: str = "now") -> list[tuple[str, str]]:
        """What the handler finds when somebody says ``text``: roles and contents, in the order of their times."""
        said = await self.user.say(self.id, text)
        await self.user.wait_for_reply(self.id, after=said)
        items = handler_module("recall").found[-1]
        assert [item.at for item in items] == sorted(item.at for item in items)
        return [(item.role, item.content) for item in items]


@asynccontextmanager
async def talk(
    folder: Path, profile: str, old: int = 3, *, settings: dict[str, Any] | None = None, **document: Any
) -> AsyncIterator[Talk]:
    """An agent in a conversation in which so much was said before it came to this supervisor.

    Args:
        settings: of the agent's row.
        document: fields of the second of those messages, as the platform keeps it.
    """
    agents_dir = handlers_folder(folder, HANDLERS)
    async with stack(folder, sandbox_settings={"profile": profile}, agents_dir=agents_dir) as fleet:
        fleet.sandbox.add_agent(agent_id(1), SECRET)
        user = await fleet.sandbox.user()
        conversation = await user.open(agent_id(1))
        for number in range(old):
            await user.say(conversation, f"old {number}")
        for number, stored in enumerate(fleet.sandbox.messages(conversation)):
            # The agent meets the conversation now, and does not answer what was said before.
            minute, second = divmod(number, 60)
            stored.created_at = stored.document["createdAt"] = LONG_AGO.format(minute=minute, second=second)
            if number == 1:
                stored.document.update(document)
        identity = await fleet.add(1, "recall", settings=settings or {})
        await fleet.online()
        # v2 puts the agent's new socket into the conversation when a user of it connects.
        await user.open(identity)
        yield Talk(fleet, identity, user, conversation)


OLD = [("user", "old 0"), ("user", "old 1"), ("user", "old 2")]
NOTED = [("assistant", "noted 1"), ("assistant", "noted 2")]


@PROFILES
async def test_a_conversation_that_began_elsewhere_is_known(tmp_path: Path, profile: str) -> None:
    async with talk(tmp_path, profile) as here:
        assert await here.recalled("a") == [*OLD, ("user", "a")]
        assert await here.recalled("b") == [*OLD, ("user", "a"), NOTED[0], ("user", "b")]
        assert await here.recalled("c 2") == [NOTED[1], ("user", "c 2")], "the journal has enough"


@PROFILES
async def test_what_an_earlier_life_of_the_agent_said_is_the_assistants(tmp_path: Path, profile: str) -> None:
    async with talk(tmp_path, profile) as here:
        await here.recalled("a")
        await here.fleet.service.stop()
        (tmp_path / "supervisor.db").unlink()
        await here.fleet.restart()
        await here.fleet.add(1, "recall")
        await here.fleet.online()
        await here.user.open(here.agent)
        found = await here.recalled("b")
        assert found == [*OLD, ("user", "a"), NOTED[0], ("user", "b")]


@PROFILES
async def test_commands_and_their_answers_are_no_part_of_what_was_said(tmp_path: Path, profile: str) -> None:
    async with talk(tmp_path, profile) as here:
        await here.recalled("a")
        for number, command in enumerate(("/status", " /STOP ", "/status"), 1):
            await here.user.say(here.id, command)
            await here.told(number)
        assert await here.recalled("b") == [*OLD, ("user", "a"), NOTED[0], ("user", "b")]
        # The platform remembers them, too.
        await here.fleet.service.stop()
        (tmp_path / "supervisor.db").unlink()
        await here.fleet.restart()
        await here.fleet.add(1, "recall")
        await here.fleet.online()
        await here.user.open(here.agent)
        assert await here.recalled("c") == [*OLD, ("user", "a"), NOTED[0], ("user", "b"), NOTED[1], ("user", "c")]


async def test_where_commands_are_turned_off_they_are_messages_like_others(tmp_path: Path) -> None:
    async with talk(tmp_path, "v1", settings={"commands": False}) as here:
        assert await here.recalled("/status") == [*OLD, ("user", "/status")]
        assert await here.recalled("b") == [*OLD, ("user", "/status"), NOTED[0], ("user", "b")]


@PROFILES
async def test_of_a_long_one_the_newest_rows_are_taken(tmp_path: Path, profile: str) -> None:
    """101 rows: the newest page holds a single one (page 1 is the oldest, docs/protocol.md#1-tokens)."""
    async with talk(tmp_path, profile, old=100) as here:
        newest = [("user", f"old {number}") for number in range(95, 100)]
        assert await here.recalled("now 6") == [*newest, ("user", "now 6")]


@pytest.mark.parametrize("document", [{"isDeleted": True}, {"type": "thinking"}, {"type": "tool_call"}])
async def test_what_was_deleted_and_what_nobody_said_is_left_out(tmp_path: Path, document: dict[str, Any]) -> None:
    async with talk(tmp_path, "v1", **document) as here:
        assert await here.recalled() == [OLD[0], OLD[2], ("user", "now")]


@PROFILES
@pytest.mark.parametrize("status", [404, 500, 403])
async def test_a_platform_that_cannot_tell_is_no_error(
    tmp_path: Path, profile: str, status: int, log: Callable[[], list[dict[str, Any]]]
) -> None:
    async with talk(tmp_path, profile) as here:
        here.fleet.sandbox.faults.rest("history", mode="status", status=status)
        assert await here.recalled("a") == [("user", "a")]
        assert await here.recalled("b") == [("user", "a"), NOTED[0], ("user", "b")]
        told = [line["level"] for line in log() if line["event"] == "history_not_read"]
        assert told == ([] if status == 404 else ["debug"]), "and it is not asked again at once"


@PROFILES
async def test_where_a_conversation_began_here_that_is_found_out_once(
    tmp_path: Path, profile: str, log: Callable[[], list[dict[str, Any]]]
) -> None:
    async with talk(tmp_path, profile, old=0) as here:
        assert await here.recalled("a") == [("user", "a")]
        # Whoever asked again would be told of a failure.
        here.fleet.sandbox.faults.rest("history", mode="status", status=500)
        await here.recalled("b")
        assert [line for line in log() if line["event"] == "history_not_read"] == []
