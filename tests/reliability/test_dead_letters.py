"""R10: a reply that the platform refuses for good; R24: a message whose handler kills the process, every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.states import MessageState, ReplyState
from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.sandbox.world.faults import RefuseSends
from tests.support.processes import SECONDS, SupervisorProcess, supervisor_process
from tests.support.registry_file import RegistryFile
from tests.support.reliability import Case
from tests.support.stack import SECRET, is_apology, stack

#: Refusals that no later attempt can change, in the platform's words (docs/protocol.md#4-sending).
PERMANENT = {
    "permission": "You do not have permission to create.",
    "invalid": "Message validation failed: content: Path `content` is required.",
}
RESTARTS = 20
EXIT_CODE = 13
MAX_ATTEMPTS = 3
FATAL = f"""
import asyncio

async def on_message(message, ctx):
    mark("starts", message.content)
    if message.content == "die":
        os._exit({EXIT_CODE})
    return f"Echo: {{message.content}}"
"""
BESIDE = f"""
import asyncio

async def on_message(message, ctx):
    mark("starts", message.content)
    busy = f"busy-{{os.getpid()}}"
    if message.content == "die":
        # In company if it can, else alone.
        for _ in range(200):
            await asyncio.sleep(0.0 if marked(busy) else 0.01)
        os._exit({EXIT_CODE})
    if message.content == "slow":
        mark(busy)
        await asyncio.sleep(0.3)
    return f"Echo: {{message.content}}"
"""


def refusals(sandbox: Sandbox) -> list[str]:
    """What the platform refused, in order."""
    return [event.fields["payload"]["content"] for event in sandbox.events if event.kind == "refused"]


def dead_replies(file: RegistryFile) -> list[str]:
    """Why each reply that is a dead letter became one."""
    return [row.error or "" for row in file.outbox() if row.state is ReplyState.DEAD]


def answers(sandbox: Sandbox, conversation: str) -> list[str]:
    """What the agent said in a conversation."""
    return [message.content for message in sandbox.messages(conversation) if message.sender_kind == "agent"]


@pytest.mark.parametrize("refusal", PERMANENT)
async def test_r10_a_reply_refused_for_good_is_one_dead_letter_over_many_restarts(
    tmp_path: Path, case: Callable[[str], Case], refusal: str
) -> None:
    figures = case(f"R10 {refusal}")
    async with stack(tmp_path) as running:
        identity = await running.add()
        await running.online()
        user = await running.sandbox.user()
        conversation = await user.open(identity)
        running.sandbox.faults.refuse_sends(PERMANENT[refusal])
        figures.faults += 1
        await user.say(conversation, "refused")
        file = RegistryFile(tmp_path / "supervisor.db")
        await running.until(lambda: dead_replies(file))
        for _ in range(RESTARTS):
            await running.restart()
            figures.rounds += 1
            await running.online()
        assert refusals(running.sandbox) == ["Echo: refused"]
        running.sandbox.faults.clear(RefuseSends)
        await user.say(conversation, "after")
        await running.sandbox.wait_until(lambda: answers(running.sandbox, conversation), SECONDS)
        figures.answers(["Echo: after"], answers(running.sandbox, conversation))
        assert answers(running.sandbox, conversation) == ["Echo: after"]
        assert refusals(running.sandbox) == ["Echo: refused"]
        [reason] = dead_replies(file)
        assert PERMANENT[refusal] in reason


async def test_r10_an_agent_without_permission_does_not_try_again_in_further_processes(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R10 processes")
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {}) as supervisor:
        identity = await supervisor.add()
        sandbox.add_agent(identity, SECRET, role="viewer")
        user = await sandbox.user()
        conversation = await user.open(identity)
        await supervisor.start()
        await supervisor.online()
        await user.say(conversation, "refused")
        figures.faults += 1
        await supervisor.until(lambda: dead_replies(supervisor.file), "the dead letter")
        await supervisor.kill()
        for _ in range(2):
            await supervisor.start()
            await supervisor.online()
            await supervisor.stop()
            figures.rounds += 1
        sandbox.add_agent(identity, SECRET, role="editor")
        await supervisor.start()
        await supervisor.online()
        await user.say(conversation, "after")
        await sandbox.wait_until(lambda: answers(sandbox, conversation), SECONDS)
        await supervisor.stop()
        figures.answers(["Echo: after"], answers(sandbox, conversation))
        assert answers(sandbox, conversation) == ["Echo: after"]
        assert refusals(sandbox) == ["Echo: refused"]
        assert len(dead_replies(supervisor.file)) == 1


async def restart_until(supervisor: SupervisorProcess, condition: Callable[[], object]) -> int:
    """Start the supervisor again whenever it has died, as an init system does; how often it died."""
    deaths = 0
    while True:
        await supervisor.start()
        await supervisor.until(lambda: supervisor.ended or condition(), "answers, or the process's end")
        if not supervisor.ended:
            return deaths
        assert await supervisor.end() == EXIT_CODE, supervisor.log[-2000:]
        deaths += 1


async def test_r24_a_message_that_kills_the_process_is_a_dead_letter_after_max_attempts(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R24")
    async with (
        Sandbox() as sandbox,
        supervisor_process(tmp_path, sandbox, {"fatal": FATAL}, max_attempts=MAX_ATTEMPTS) as supervisor,
    ):
        first, second = await supervisor.add(1, "fatal"), await supervisor.add(2, "echo")
        user = await sandbox.user()
        conversation, other = await user.open(first), await user.open(second)
        await supervisor.start()
        await supervisor.online()
        # The agents know their conversations: only so can they ask what they have missed there.
        for one in (conversation, other):
            await user.wait_for_reply(one, after=await user.say(one, "hello"), timeout=SECONDS)
        fatal = await user.say(conversation, "die")
        assert await supervisor.end() == EXIT_CODE
        # Said while nobody is there or while they die: with the platform's history none of it is lost.
        await user.say(conversation, "behind it")
        await user.say(other, "beside it")
        deaths = 1 + await restart_until(
            supervisor, lambda: len(answers(sandbox, conversation)) == 3 and len(answers(sandbox, other)) == 2
        )
        figures.rounds = figures.faults = deaths
        await supervisor.stop()
        inbox = supervisor.file.inbox()
        _, apology, answer = (m for m in sandbox.messages(conversation) if m.sender_kind == "agent")
        assert (is_apology(apology), answer.content) == (True, "Echo: behind it")
        assert answers(sandbox, other) == ["Echo: hello", "Echo: beside it"]
        figures.answers(
            ["Echo: behind it", "Echo: beside it"], answers(sandbox, conversation) + answers(sandbox, other)
        )
        assert supervisor.marks("starts").count("die") == MAX_ATTEMPTS
        # One start more has found it and buried it.
        assert (deaths, supervisor.starts) == (MAX_ATTEMPTS, MAX_ATTEMPTS + 1)
        assert [row.key for row in inbox.values() if row.state is MessageState.DEAD] == [fatal]
        assert {row.state for key, row in inbox.items() if key != fatal} == {MessageState.DONE}
        assert {row.state for row in supervisor.file.outbox()} == {ReplyState.ACKED}


async def test_r24_what_runs_beside_a_message_that_kills_the_process_is_answered(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R24 beside")
    async with (
        Sandbox() as sandbox,
        supervisor_process(tmp_path, sandbox, {"beside": BESIDE}, max_attempts=MAX_ATTEMPTS) as supervisor,
    ):
        users: list[tuple[SandboxUser, str]] = []
        for number in (1, 2):
            user = await sandbox.user()
            users.append((user, await user.open(await supervisor.add(number, "beside"))))
        (killer, conversation), (victim, other) = users
        await supervisor.start()
        await supervisor.online()
        await victim.say(other, "slow")
        await killer.say(conversation, "die")
        assert await supervisor.end() == EXIT_CODE
        deaths = 1 + await restart_until(supervisor, lambda: answers(sandbox, conversation) and answers(sandbox, other))
        figures.rounds = figures.faults = deaths
        await supervisor.stop()
        figures.answers(["Echo: slow"], answers(sandbox, other))
        assert answers(sandbox, other) == ["Echo: slow"]
        assert supervisor.marks("starts").count("die") <= MAX_ATTEMPTS
