"""R20: replies that the platform would refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.errors import InvalidReplyError
from supervisor.core.states import AgentState, MessageState
from supervisor.messages.notices import APOLOGY
from tests.support.observing import Bystander, handlers_folder
from tests.support.reliability import Case
from tests.support.stack import Stack, handler_module, is_apology, stack

CODE = '''
"""Gives what the message names, as an answer, as one of several parts, or through ctx.send."""
from supervisor.handler import Reply, Thinking, ToolCall, ToolResult, Usage

def circle():
    made = []
    made.append(made)
    return made

def nested():
    made = []
    for _ in range(100_000):
        made = [made]
    return made

call = ToolCall("search", {"q": "x"})
parts = {
    "too large": lambda: "x" * 2_000_000,
    "a little too large": lambda: "x" * 1_000_000,
    "too large once it is JSON": lambda: "\\x01" * 300_000,
    "empty": lambda: "",
    "blank": lambda: " \\n\\t ",
    "number": lambda: 5,
    "true": lambda: True,
    "bytes": lambda: b"text",
    "mapping": lambda: {"content": "x"},
    "class": lambda: Reply,
    "half a character": lambda: "a\\ud800b",
    "content is a number": lambda: Reply(7),
    "content is null": lambda: Reply(None),
    "attachment of another scheme": lambda: Reply("x", attachments=["ftp://x/y"]),
    "attachment that is a script": lambda: Reply("x", attachments=["javascript:alert(1)"]),
    "attachment that is a path": lambda: Reply("x", attachments=["/etc/passwd"]),
    "attachment without an id": lambda: Reply("x", attachments=["document:"]),
    "attachment that is a number": lambda: Reply("x", attachments=[7]),
    "attachments that are text": lambda: Reply("x", attachments="https://x/"),
    "attachments that are a number": lambda: Reply("x", attachments=7),
    "unknown type": lambda: Reply("x", type="poem"),
    "type is a number": lambda: Reply("x", type=7),
    "usage is text": lambda: Reply("x", usage="12 tokens"),
    "usage of text": lambda: Reply("x", usage=Usage("one", "two")),
    "latency is text": lambda: Reply("x", latency_ms="fast"),
    "metadata that JSON cannot hold": lambda: Reply("x", metadata={"a": object()}),
    "metadata that holds itself": lambda: Reply("x", metadata={"a": circle()}),
    "metadata that is nested for ever": lambda: Reply("x", metadata={"a": nested()}),
    "thinking is text": lambda: Reply("x", thinking="hm"),
    "thinking of a number": lambda: Thinking(7),
    "thinking that is empty": lambda: Thinking(""),
    "arguments that are no JSON": lambda: ToolCall("search", "{q: x}"),
    "arguments that JSON cannot hold": lambda: ToolCall("search", {"q": {1, 2}}),
    "arguments that hold themselves": lambda: ToolCall("search", {"q": circle()}),
    "a tool without a name": lambda: ToolCall(None, {}),
    "a result that JSON cannot hold": lambda: ToolResult(call, object()),
    "a result of nothing": lambda: ToolResult(None, "x"),
    "an error that is a number": lambda: ToolResult(call, "x", success=False, error=7),
}
told = {}

async def on_message(message, ctx):
    how, _, name = message.content.partition(": ")
    if how == "answer":
        return parts[name]()
    if how == "part":
        return streamed(name)
    if how == "send":
        try:
            await ctx.send(parts[name]())
        except Exception as error:
            told[name] = error
            return f"refused {name}"
    return f"Echo: {message.content}"

async def streamed(name):
    yield "before"
    yield parts[name]()
'''
NAMES = [line.split('"')[1] for line in CODE.splitlines() if line.startswith('    "')]


class Talk:
    """One agent whose handler gives what cannot be sent, and what came of it."""

    def __init__(self, fleet: Stack, identity: str) -> None:
        self.fleet = fleet
        self.id = identity

    async def ask(self, text: str, count: int = 1) -> list[tuple[str, str]]:
        """Say something; the types and contents of the answers, an apology's being "error"."""
        replies = await self.fleet.ask(self.id, text, count=count)
        return [("error" if is_apology(reply) else reply.type or "text", reply.content) for reply in replies]

    async def error(self, text: str) -> str:
        """What the journal says of the dead letter that a message became."""
        rows = await self.fleet.service.registry.journal.messages(agent_id=self.id, limit=1000)
        [row] = [row for row in rows if row.message.content == text]
        assert (row.state, row.attempts) == (MessageState.DEAD, 1), "an error of the author's is not tried again"
        return row.error or ""


async def test_r20_replies_that_cannot_be_sent(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R20")
    async with stack(tmp_path, agents_dir=handlers_folder(tmp_path, {"wrong": CODE})) as fleet:
        bystander = await Bystander.join(fleet)
        identity = await fleet.add(1, "wrong")
        await fleet.online(2)
        talk = Talk(fleet, identity)
        connection = fleet.service.fleet.runner(identity).agent.connection
        expected: list[str] = []
        for name in NAMES:
            text = f"answer: {name}"
            assert await talk.ask(text) == [("error", APOLOGY)], name
            assert "InvalidReplyError" in await talk.error(text), name
            status = fleet.service.control.status(identity)
            assert (status.state, "InvalidReplyError" in status.health) == (AgentState.ONLINE, True), name
            expected.append(APOLOGY)
            counted.faults += 1
        for name in NAMES:
            # The author is told where it happens, and may go on.
            assert await talk.ask(f"send: {name}") == [("text", f"refused {name}")]
            assert isinstance(handler_module("wrong").told[name], InvalidReplyError), name
            expected.append(f"refused {name}")
            counted.faults += 1
        for name in NAMES[:10]:
            text = f"part: {name}"
            assert await talk.ask(text, 2) == [("text", "before"), ("error", APOLOGY)], name
            assert "InvalidReplyError" in await talk.error(text), name
            expected += ["before", APOLOGY]
            counted.faults += 1
        assert await talk.ask("well?") == [("text", "Echo: well?")]
        assert fleet.service.control.status(identity).health == "ok"
        said = fleet.sandbox.messages(fleet.sandbox.conversation_of(identity))
        answers = [message.content for message in said if message.sender_kind == "agent"]
        counted.messages = len(expected) + 1
        assert answers == [*expected, "Echo: well?"], "one notice each, and nothing else"
        assert not [event for event in fleet.sandbox.events if event.kind == "refused"], "refused before it was sent"
        assert fleet.service.fleet.runner(identity).agent.connection is connection
        await bystander.answers()


@pytest.mark.parametrize("limit", [20_000])
async def test_r20_the_platforms_own_limit_counts(tmp_path: Path, case: Callable[[str], Case], limit: int) -> None:
    """A platform that takes smaller frames: what it would cut the connection for is refused before."""
    case("R20 frame limit").faults = 1
    folder = handlers_folder(
        tmp_path, {"large": "async def on_message(message, ctx):\n    return 'x' * int(message.content)\n"}
    )
    async with stack(tmp_path, sandbox_settings={"max_payload_bytes": limit}, agents_dir=folder) as fleet:
        identity = await fleet.add(1, "large")
        await fleet.online()
        talk = Talk(fleet, identity)
        assert await talk.ask(str(limit)) == [("error", APOLOGY)]
        assert f"{limit - 1024:,}" in await talk.error(str(limit))
        assert await talk.ask(str(limit // 2)) == [("text", "x" * (limit // 2))]
        assert len(fleet.sandbox.connects) == 1
