"""The public API as authors use it; ``mypy --strict`` reads it: tests/integration/agents/test_packages.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from supervisor.handler import (
    AgentContext,
    Budget,
    Context,
    Handler,
    HistoryItem,
    Message,
    Part,
    Permanent,
    Remembered,
    Reply,
    Result,
    Source,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from supervisor.testing import FakeContext, ask, sandboxed


async def coroutine(message: Message, ctx: Context) -> str | None:
    return message.content if message.attachments else None


def plain(message: Message, ctx: Context) -> Reply:
    found = [Source("web", "a page", label="A page", url="https://x.example", score=0.5), Source("memory", "tea")]
    return Reply(message.content, thinking=Thinking("hm", 12.5), usage=Usage(1, 2), metadata={"a": 1}, sources=found)


async def parts(message: Message, ctx: Context) -> AsyncIterator[Part]:
    call = ToolCall("look_up", {"what": message.content})
    yield call
    yield ToolResult(call, {"rows": 3})
    yield "three rows"


def lines(message: Message, ctx: Context) -> Iterator[Part]:
    yield from message.content.splitlines()


class Asynchronous(Handler):
    def __init__(self) -> None:
        self.seen = 0

    async def on_start(self, ctx: AgentContext) -> None:
        ctx.note_health(None)

    async def on_message(self, message: Message, ctx: Context) -> str:
        self.seen += 1
        budget: Budget = ctx.budget()
        if budget.exhausted:
            return budget.notice
        with ctx.model_call("large", provider="own") as call:
            call.model = "larger"
            call.usage = Usage(1, 2, call.model)
        ctx.usage(1, 2, model=call.model, provider="openai")
        with ctx.span("look around"), ctx.tool_call("look_up", call_id="call_1"):
            headers: dict[str, str] = ctx.trace_headers()
            ctx.log.info("asked", headers=len(headers))
        earlier: list[HistoryItem] = await ctx.history(5)
        known: Remembered | None = await ctx.remembered()
        kept: bool = await ctx.remember("They like tea.", known.behind(earlier) if known else earlier)
        users: list[str] = await ctx.online_users()
        prompt: str = ctx.instruction.system_prompt
        settings: Mapping[str, Any] = ctx.settings
        key: str = ctx.secret("env:KEY")
        size: int = await ctx.in_thread(lambda: len(key))
        words: Any = await ctx.load("words:WORDS")
        ctx.log.info("looked", size=size, words=words, kept=kept)
        await ctx.send(Thinking(f"{len(earlier)} {users} {prompt} {settings} {len(key)} {ctx.deadline:.0f}"))
        return ctx.agent.name


class Synchronous(Handler):
    def on_message(self, message: Message, ctx: Context) -> Result:
        raise Permanent("not today")

    def on_stop(self, ctx: AgentContext) -> None:
        ctx.log.info("over")


async def tests() -> None:
    ctx = FakeContext(settings={"tone": "kind"}, instruction="Be brief.", history=["before"])
    for handler in (coroutine, plain, parts, lines, Asynchronous, Synchronous(), "echo"):
        reply: Reply = await ask(handler, "hello", ctx)
        print(reply.content, ctx.parts, ctx.used.total_tokens)
    async with sandboxed("echo", settings={"tone": "kind"}, profile="v2") as chat:
        answer: str = (await chat.ask("hello")).content
        print(answer)
