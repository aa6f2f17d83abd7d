"""What was said to an agent while it was away is asked for and answered, once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState, MessageState
from supervisor.platform.hosts.agent_api import Access
from supervisor.sandbox import SandboxUser
from supervisor.service import Service
from tests.support.stack import Stack, stack

PROFILES = pytest.mark.parametrize("profile", ["v1", "v2"])


@asynccontextmanager
async def talking(folder: Path, profile: str, **given: Any) -> AsyncIterator[tuple[Stack, str, SandboxUser, str]]:
    """A fleet with one agent that has answered one message: fleet, agent, user, conversation."""
    async with stack(folder, sandbox_settings={"profile": profile}, **given) as fleet:
        identity = await fleet.add()
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        first = await user.say(conversation, "0")
        await user.wait_for_reply(conversation, after=first)
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 0)
        yield fleet, identity, user, conversation


def answers(fleet: Stack, conversation: str) -> list[str]:
    """What the agent has answered, without the handler's prefix."""
    said = [message.content for message in fleet.sandbox.messages(conversation)]
    return [text.removeprefix("Echo: ") for text in said if text.startswith("Echo: ")]


async def asleep(fleet: Stack, identity: str) -> None:
    """Take the agent off the platform."""
    await fleet.service.control.pause(identity)
    await fleet.state(identity, AgentState.PAUSED)


async def until_answered(fleet: Stack, conversation: str, expected: list[str]) -> None:
    await fleet.until(lambda: len(answers(fleet, conversation)) >= len(expected))
    assert answers(fleet, conversation) == expected


@PROFILES
async def test_what_was_said_while_the_agent_was_paused_is_answered_in_order(tmp_path: Path, profile: str) -> None:
    async with talking(tmp_path, profile) as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        for number in range(1, 6):
            await user.say(conversation, str(number))
        await fleet.service.control.resume(identity)
        await fleet.online()
        await user.say(conversation, "6")
        await until_answered(fleet, conversation, [str(number) for number in range(7)])


@PROFILES
async def test_what_was_said_while_the_supervisor_was_down_is_answered(tmp_path: Path, profile: str) -> None:
    async with talking(tmp_path, profile) as (fleet, identity, user, conversation):
        await fleet.service.stop()
        for number in range(1, 4):
            await user.say(conversation, str(number))
        await fleet.restart()
        await until_answered(fleet, conversation, ["0", "1", "2", "3"])
        for _ in range(2):
            await fleet.restart()
            await fleet.online()
        await fleet.ask(identity, "last")
        assert answers(fleet, conversation).count("3") == 1


@PROFILES
async def test_cuts_in_the_middle_of_a_conversation_lose_nothing(tmp_path: Path, profile: str) -> None:
    async with talking(tmp_path, profile) as (fleet, identity, user, conversation):
        sent = 1
        for _ in range(10):
            for _ in range(5):
                await user.say(conversation, str(sent))
                sent += 1
            fleet.sandbox.cut(identity)
            await user.say(conversation, str(sent))
            sent += 1
            await fleet.state(identity, AgentState.ONLINE)
        await fleet.until(lambda: len(answers(fleet, conversation)) >= sent)
        found = answers(fleet, conversation)
        # v2 ignores our ids, and a cut may come between a send and the history's knowing it.
        assert sorted(set(found), key=int) == [str(number) for number in range(sent)]
        assert list(dict.fromkeys(found)) == [str(number) for number in range(sent)], "out of order"
        if profile == "v1":
            assert len(found) == sent, "doubled"


async def test_the_very_first_message_is_not_lost_in_a_gap(tmp_path: Path) -> None:
    """v1 puts an agent into its conversation at once, so that it knows it before anybody has said anything."""
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await asleep(fleet, identity)
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "first")
        await fleet.service.control.resume(identity)
        await until_answered(fleet, conversation, ["first"])


async def test_a_conversation_that_is_met_for_the_first_time_starts_now(tmp_path: Path) -> None:
    """What was said long before the agent was registered is none of its business."""
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        old = fleet.sandbox.messages(conversation)
        await user.say(conversation, "long ago")
        [stored] = fleet.sandbox.messages(conversation)
        stored.document["createdAt"] = "2020-01-01T00:00:00.000Z"
        await fleet.online()
        assert old == []
        for _ in range(2):
            fleet.sandbox.cut(identity)
            await fleet.state(identity, AgentState.BACKOFF, AgentState.CONNECTING, AgentState.AUTHENTICATING)
            await fleet.online()
        await fleet.ask(identity, "now")
        assert answers(fleet, conversation) == ["now"]


async def test_the_number_is_bounded_and_said(tmp_path: Path, log: Callable[[], list[dict[str, Any]]]) -> None:
    async with talking(tmp_path, "v1", backfill_messages=3) as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        for number in range(1, 8):
            await user.say(conversation, str(number))
        await fleet.service.control.resume(identity)
        await until_answered(fleet, conversation, ["0", "5", "6", "7"])
    assert [line["event"] for line in log()].count("backfill_cut") == 1


async def test_the_age_is_bounded(tmp_path: Path) -> None:
    async with talking(tmp_path, "v1") as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        for number in range(1, 5):
            await user.say(conversation, str(number))
        for message in fleet.sandbox.messages(conversation)[:-2]:
            message.document["createdAt"] = "2020-01-01T00:00:00.000Z"
        await fleet.service.control.resume(identity)
        await until_answered(fleet, conversation, ["0", "3", "4"])


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    async with talking(tmp_path, "v1", backfill_messages=0) as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        await user.say(conversation, "unheard")
        await fleet.service.control.resume(identity)
        await fleet.online()
        await user.say(conversation, "heard")
        await until_answered(fleet, conversation, ["0", "heard"])


async def test_long_histories_are_read_from_their_end(tmp_path: Path) -> None:
    """Page 1 is the oldest (docs/protocol.md#1-tokens)."""
    async with talking(tmp_path, "v1") as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        for number in range(1, 161):
            await user.say(conversation, str(number))
        await fleet.service.control.resume(identity)
        await fleet.until(lambda: len(answers(fleet, conversation)) >= 161)
        assert answers(fleet, conversation) == [str(number) for number in range(161)]


async def test_a_platform_without_history_is_asked_once(
    tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    async with talking(tmp_path, "v1") as (fleet, identity, user, conversation):
        fleet.sandbox.faults.rest("history", mode="status", status=404)
        for _ in range(3):
            fleet.sandbox.cut(identity)
            await fleet.state(identity, AgentState.BACKOFF, AgentState.CONNECTING, AgentState.AUTHENTICATING)
            await fleet.online()
            await user.wait_for_reply(conversation, after=await user.say(conversation, "still here"))
    lines = [line["event"] for line in log()]
    assert (lines.count("no_history"), lines.count("backfill_failed")) == (1, 0)


async def test_trouble_with_the_history_delays_and_loses_nothing(
    tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    async with talking(tmp_path, "v1") as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        await user.say(conversation, "1")
        fleet.sandbox.faults.rest("history", mode="status", status=503, times=1)
        await fleet.service.control.resume(identity)
        await fleet.online()
        await user.say(conversation, "2")
        await until_answered(fleet, conversation, ["0", "1", "2"])
    assert [line["event"] for line in log()].count("backfill_failed") == 0


async def test_a_refused_history_is_said_once_and_new_messages_go_on(
    tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    async with talking(tmp_path, "v1") as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        await user.say(conversation, "unheard")
        fleet.sandbox.faults.rest("history", mode="status", status=403)
        await fleet.service.control.resume(identity)
        await fleet.online()
        await user.say(conversation, "heard")
        await until_answered(fleet, conversation, ["0", "heard"])
        failed = [line for line in log() if line["event"] == "backfill_failed"]
        assert [line["conversation"] for line in failed] == [conversation]
        # The gap is still open: the next connection asks again.
        fleet.sandbox.faults.clear()
        fleet.sandbox.cut(identity)
        await until_answered(fleet, conversation, ["0", "heard", "unheard"])


async def test_a_gap_in_which_nobody_could_be_asked_is_made_up_later(tmp_path: Path) -> None:
    """A second loss while the first gap is being closed."""
    async with talking(tmp_path, "v1") as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        await user.say(conversation, "1")
        fleet.sandbox.faults.delay(rest_seconds=30)
        await fleet.service.control.resume(identity)
        await asyncio.sleep(0)
        fleet.sandbox.faults.clear()
        await fleet.online()
        fleet.sandbox.cut(identity)
        await until_answered(fleet, conversation, ["0", "1"])


async def test_messages_without_an_id_are_not_taken_twice_from_the_history(tmp_path: Path) -> None:
    """Bridged ones come without an id, and the history has one for them; it has the first, which never comes, too."""
    async with talking(tmp_path, "v2") as (fleet, identity, _user, _conversation):
        person = fleet.sandbox.bridge.person()
        conversation = person.say(identity, "the first is never sent to the agent")
        person.say(identity, "from afar")
        await until_answered(fleet, conversation, ["the first is never sent to the agent", "from afar"])
        fleet.sandbox.cut(identity)
        await fleet.state(identity, AgentState.BACKOFF, AgentState.CONNECTING, AgentState.AUTHENTICATING)
        await fleet.online()
        await fleet.ask(identity, "after")
        assert answers(fleet, conversation).count("from afar") == 1


@PROFILES
async def test_messages_that_an_earlier_life_has_answered_are_left_alone(tmp_path: Path, profile: str) -> None:
    """Another registry took the agent over for a while, as after a restored backup: its answers are not ours."""
    async with talking(tmp_path, profile) as (fleet, identity, user, conversation):
        await asleep(fleet, identity)
        other_folder = tmp_path / "other"
        other_folder.mkdir()
        url = f"sqlite+aiosqlite:///{other_folder / 'supervisor.db'}"
        other = await Service.start(fleet.settings.model_copy(update={"registry_url": url}))
        [record] = await fleet.service.registry.agents()
        await other.registry.add_agent(replace(record, paused=False))
        await other.fleet.wait_online(1, 10)
        await user.open(identity)
        await user.say(conversation, "1")
        await fleet.until(lambda: "1" in answers(fleet, conversation))
        await other.stop()
        await user.say(conversation, "2")
        await fleet.service.control.resume(identity)
        await until_answered(fleet, conversation, ["0", "1", "2"])


async def test_a_doubtful_reply_is_looked_for_before_it_is_sent_again(tmp_path: Path) -> None:
    """v2 ignores our ids: the connection breaks when the platform has stored the reply and not said so."""
    async with talking(tmp_path, "v2") as (fleet, identity, user, conversation):
        fleet.sandbox.faults.cut_sends(when="after_store", times=1)
        await user.say(conversation, "1")
        await fleet.until(lambda: "1" in answers(fleet, conversation))
        await fleet.online()
        await user.say(conversation, "2")
        await until_answered(fleet, conversation, ["0", "1", "2"])
        fleet.sandbox.faults.cut_sends(when="before_store", times=1)
        await user.say(conversation, "3")
        await until_answered(fleet, conversation, ["0", "1", "2", "3"])
        [rows] = [await fleet.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])]
        assert rows == []


def test_an_access_does_not_show_its_token() -> None:
    assert "secret-token" not in repr(Access("https://api.example", "secret-token"))


@PROFILES
async def test_what_was_erased_does_not_come_back_and_what_follows_is_answered(tmp_path: Path, profile: str) -> None:
    async with talking(tmp_path, profile) as (fleet, identity, user, conversation):
        await fleet.service.registry.journal.maintenance.purge(identity)
        for _ in range(3):
            fleet.sandbox.cut(identity)
            await fleet.state(identity, AgentState.BACKOFF, AgentState.CONNECTING, AgentState.AUTHENTICATING)
            await fleet.online()
        await user.say(conversation, "1")
        await until_answered(fleet, conversation, ["0", "1"])
