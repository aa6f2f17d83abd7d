"""What ``supervisor agents new`` writes: a handler of each kind, with a test that passes as it is.

In each text ``{name}`` is the module's name, ``{title}`` the same in words, ``{cls}`` as a class's, and
``{folder}`` the folder of handlers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["function", "class", "stream", "tools", "llm"]


@dataclass(frozen=True, slots=True)
class Template:
    """A handler and its test.

    Args:
        needs: what is imported of the extra ``llm``, where it is needed.
        options: what ``supervisor dev`` is given to try it.
    """

    handler: str
    test: str
    needs: str = ""
    options: str = ""


_HEAD: Final = '''\
"""The handler {name}: alone, and as people meet it."""

import asyncio
from pathlib import Path

from supervisor.testing import FakeContext, ask, sandboxed

AGENTS = Path(__file__).parent.parent / "{folder}"
'''

_FUNCTION: Final = Template(
    '''\
"""{title}: say here what it does."""

from supervisor.handler import Context, Message


async def on_message(message: Message, ctx: Context) -> str:
    """Answer one message."""
    return f"You said: {{message.content}}"
''',
    _HEAD
    + """

def test_it_answers() -> None:
    ctx = FakeContext(settings={{"tone": "friendly"}})
    reply = asyncio.run(ask("{name}", "hello", ctx, agents_dir=AGENTS))
    assert reply.content == "You said: hello"


def test_it_answers_in_a_chat() -> None:
    async def talk() -> str:
        async with sandboxed("{name}", agents_dir=AGENTS) as chat:
            reply = await chat.ask("hello")
            return reply.content

    assert asyncio.run(talk()) == "You said: hello"
""",
)

_CLASS: Final = Template(
    '''\
"""{title}: counts what each conversation has said, and greets as its row says."""

from supervisor.handler import AgentContext, Context, Handler, Message

#: All that a row may set of it.
SETTINGS = ("greeting",)


class {cls}(Handler):
    """One instance serves one agent."""

    def __init__(self) -> None:
        self.greeting = ""
        self.counts: dict[str, int] = {{}}

    async def on_start(self, ctx: AgentContext) -> None:
        """Called once before the first message: open here what needs the event loop."""
        self.greeting = ctx.settings.get("greeting", "Hello")

    async def on_stop(self, ctx: AgentContext) -> None:
        """Called when the agent is paused, reloaded or removed: close here what was opened."""

    async def on_message(self, message: Message, ctx: Context) -> str:
        """Answer one message; those of a conversation come one at a time, in order."""
        count = self.counts[ctx.conversation] = self.counts.get(ctx.conversation, 0) + 1
        return f"{{self.greeting}}, that was message {{count}}: {{message.content}}"
''',
    _HEAD
    + """

def test_it_greets_as_its_row_says() -> None:
    ctx = FakeContext(settings={{"greeting": "Ahoy"}})
    reply = asyncio.run(ask("{name}", "one", ctx, agents_dir=AGENTS))
    assert reply.content == "Ahoy, that was message 1: one"


def test_it_counts_in_a_chat() -> None:
    async def talk() -> list[str]:
        async with sandboxed("{name}", agents_dir=AGENTS) as chat:
            return [(await chat.ask(text)).content for text in ("one", "two")]

    assert asyncio.run(talk()) == ["Hello, that was message 1: one", "Hello, that was message 2: two"]
""",
)

_STREAM: Final = Template(
    '''\
"""{title}: answers in several parts, each of which is sent as it comes."""

import asyncio
from collections.abc import AsyncIterator

from supervisor.handler import Context, Message, Part, Reply, Thinking


async def on_message(message: Message, ctx: Context) -> AsyncIterator[Part]:
    """Answer one message; what is yielded is seen at once, so a failure after it is not tried again."""
    yield Thinking("I look at each word.")
    for word in message.content.split():
        await asyncio.sleep(0.01)
        yield Reply(word)
''',
    _HEAD
    + """

def test_each_part_is_given_by_itself() -> None:
    ctx = FakeContext()
    asyncio.run(ask("{name}", "one two", ctx, agents_dir=AGENTS))
    assert [getattr(part, "content", part) for part in ctx.parts] == ["I look at each word.", "one", "two"]


def test_people_see_all_of_them() -> None:
    async def talk() -> list[str]:
        async with sandboxed("{name}", agents_dir=AGENTS) as chat:
            said = await chat.user.say(chat.conversation, "one two")
            parts = await chat.user.wait_for_reply(chat.conversation, after=said, count=2)
            return [part.content for part in parts]

    assert asyncio.run(talk()) == ["I look at each word.", "one", "two"]
""",
)

_TOOLS: Final = Template(
    '''\
"""{title}: looks something up with a tool, and shows that it does."""

from collections.abc import AsyncIterator

from supervisor.handler import Context, Message, Part, ToolCall, ToolResult

HOURS = {{"monday": "9 to 17", "saturday": "10 to 14"}}


def opening_hours(day: str) -> str:
    """When we are open on a day of the week."""
    return HOURS.get(day.lower(), "closed")


async def on_message(message: Message, ctx: Context) -> AsyncIterator[Part]:
    """Answer one message: its last word is the day."""
    day = (message.content.rstrip(" ?!.").split() or ["Monday"])[-1]
    call = ToolCall("opening_hours", {{"day": day}})
    yield call
    with ctx.tool_call("opening_hours"):
        hours = opening_hours(day)
    yield ToolResult(call, hours)
    yield f"{{day.capitalize()}}: {{hours}}."
''',
    _HEAD
    + """

def test_it_uses_its_tool() -> None:
    ctx = FakeContext()
    reply = asyncio.run(ask("{name}", "What about Saturday?", ctx, agents_dir=AGENTS))
    assert reply.content == "Saturday: 10 to 14."
    assert ctx.tools == ["opening_hours"]


def test_people_see_the_tool_at_work() -> None:
    async def talk() -> list[str | None]:
        async with sandboxed("{name}", agents_dir=AGENTS) as chat:
            assert (await chat.ask("Sunday")).content == "Sunday: closed."
            return [message.type for message in chat.messages if message.sender_kind == "agent"]

    assert asyncio.run(talk())[:2] == ["tool_call", "tool_result"]
""",
)

_LLM: Final = Template(
    '''\
"""{title}: a language model with the platform's instruction, and a tool of its own."""

from supervisor.handler import Context
from supervisor_bundled.assistant import Assistant

REQUIRES = {{"pydantic_ai": "pip install 'aiwm-supervisor[llm]'"}}


async def opening_hours(day: str, ctx: Context) -> str:
    """When we are open on a day of the week."""
    return "closed" if day.lower() == "sunday" else "9 to 17"


class {cls}(Assistant):
    """Its row names the model: model=openai:gpt-4o, api_key=env:AGENT_OPENAI_KEY."""

    tools = [opening_hours]
''',
    '''\
"""The handler {name}, as people meet it; a made-up model says what it was told."""

import asyncio
from pathlib import Path

import pytest

from supervisor.testing import sandboxed

pytest.importorskip("pydantic_ai", reason="it needs the extra: pip install 'aiwm-supervisor[llm]'")

AGENTS = Path(__file__).parent.parent / "{folder}"


def test_the_model_answers_and_knows_the_tool() -> None:
    async def talk() -> str:
        async with sandboxed(
            "{name}", agents_dir=AGENTS, profile="v2", instruction="Be brief.", model="made-up-1"
        ) as chat:
            reply = await chat.ask("hello")
            tools = chat.sandbox.model.requests[-1].body["tools"]
            assert [tool["function"]["name"] for tool in tools] == ["opening_hours"]
            return reply.content

    assert "hello" in asyncio.run(talk())
''',
    needs="pydantic_ai",
    options=" --profile v2 --instruction 'Be brief.'",
)

TEMPLATES: Final[dict[Kind, Template]] = {
    "function": _FUNCTION,
    "class": _CLASS,
    "stream": _STREAM,
    "tools": _TOOLS,
    "llm": _LLM,
}
