"""A tour of everything an agent can show. It needs no key: try it in the demo's chat page."""

from __future__ import annotations

import ast
import asyncio
import math
import operator
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from supervisor.handler import (
    Context,
    Handler,
    Message,
    Part,
    Permanent,
    Reply,
    Source,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)

HELP = """I show what an agent can do. Try:
• 6 * 7 — thinking, a tool call and its result
• what time is it? — a tool without arguments
• attach — an answer with attachments and a source
• history — what we said so far
• slow 5 — an answer that takes five seconds, typing all the while
• error — an error message
• fail — a handler that fails, and what becomes of the message
Anything else I say back to you."""

MAX_SLOW_SECONDS = 60.0
#: Longer sums could keep the event loop busy for long: numbers of any size multiply.
MAX_SUM_CHARS = 200
_CLOCK = re.compile(r"\b(?:time|clock)\b", re.IGNORECASE)
_SUM = re.compile(r"[\d.\s()+*/%-]*\d[\d.\s()+*/%-]*\Z")
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def calculate(expression: str) -> float:
    """Work out a sum of plain numbers.

    Raises:
        ValueError: it is not one, or has no result.
    """

    def value(node: ast.AST) -> float:
        match node:
            case ast.Expression(body):
                return value(body)
            case ast.Constant(int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.UnaryOp(op, operand) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(operand))
        raise ValueError("only numbers and + - * / % ( )")

    if len(expression) > MAX_SUM_CHARS:
        raise ValueError(f"it is longer than {MAX_SUM_CHARS} characters")
    try:
        result = value(ast.parse(expression.strip(), mode="eval"))
    except (SyntaxError, ZeroDivisionError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not math.isfinite(result):
        raise ValueError("the result is too large")
    return int(result) if isinstance(result, float) and result.is_integer() else result


class Tour(Handler):
    """Answers with whatever kind of message it is asked for."""

    async def on_message(self, message: Message, ctx: Context) -> AsyncIterator[Part]:
        """Choose the stop of the tour that the text asks for."""
        text = message.content.strip()
        word, _, rest = text.lower().partition(" ")
        if _SUM.match(text.rstrip("=? ")) and any(c in text for c in "+-*/%"):
            stop = self.calculator(text.rstrip("=? "))
        elif _CLOCK.search(text):
            stop = self.clock()
        elif word in ("attach", "attachment", "attachments"):
            stop = self.attachments()
        elif word == "history":
            stop = self.history(ctx)
        elif word == "slow":
            stop = self.slow(rest, ctx)
        elif word in ("error", "fail"):
            stop = self.trouble(word)
        elif word in ("help", "hi", "hello", "?", "tour"):
            stop = self.say(HELP, text)
        else:
            stop = self.say(f"You said: {text}\n\nSay help to see what I can do.", text)
        async for part in stop:
            yield part

    async def say(self, answer: str, text: str) -> AsyncIterator[Part]:
        """A plain answer with the tokens it would have cost: a word each."""
        yield Reply(answer, usage=Usage(len(text.split()), len(answer.split()), model="tour"))

    async def calculator(self, expression: str) -> AsyncIterator[Part]:
        """Thinking, a tool call, its result, and an answer."""
        started = time.perf_counter()
        yield Thinking(f"This is a sum: {expression}. I will use the calculator.", duration_ms=_ms(started))
        call = ToolCall("calculator", {"expression": expression})
        yield call
        started = time.perf_counter()
        try:
            result = calculate(expression)
        except ValueError as error:
            yield ToolResult(call, str(error), success=False, error=str(error), duration_ms=_ms(started))
            yield Reply(f"I cannot work that out: {error}.", usage=Usage(12, 8, model="tour"))
            return
        yield ToolResult(call, {"value": result}, duration_ms=_ms(started), content=str(result))
        yield Reply(f"{expression} = {result}", usage=Usage(24, 6, model="tour"))

    async def clock(self) -> AsyncIterator[Part]:
        """A tool that takes no arguments."""
        started = time.perf_counter()
        call = ToolCall("clock")
        yield call
        now = datetime.now(UTC).replace(microsecond=0)
        yield ToolResult(call, {"utc": now.isoformat()}, duration_ms=_ms(started), content=now.isoformat())
        yield Reply(f"It is {now:%H:%M:%S} UTC on {now:%A, %d %B %Y}.", usage=Usage(10, 9, model="tour"))

    async def attachments(self) -> AsyncIterator[Part]:
        """The two kinds of attachment that the platform takes, and what the answer rests on."""
        yield Reply(
            "Here are a link and a document of the platform's.",
            attachments=["https://example.com/report.pdf", "document:handbook"],
            sources=[Source("web", "Examples are free to use.", label="About examples", url="https://example.com/")],
            usage=Usage(4, 11, model="tour"),
        )

    async def history(self, ctx: Context) -> AsyncIterator[Part]:
        """What the supervisor's journal holds of this conversation."""
        items = await ctx.history(10)
        lines = [f"{item.role}: {item.content.splitlines()[0][:80]}" for item in items if item.content]
        yield Reply("\n".join(lines) or "We have not said anything yet.")

    async def slow(self, rest: str, ctx: Context) -> AsyncIterator[Part]:
        """An answer that takes its time."""
        try:
            seconds = float(rest or 3)
        except ValueError:
            seconds = math.nan
        if math.isnan(seconds):
            yield "Say slow and a number of seconds."
            return
        ctx.typing()
        seconds = min(MAX_SLOW_SECONDS, max(0.0, seconds))
        await asyncio.sleep(seconds)
        yield Reply(
            f"That took {seconds:g} {'second' if seconds == 1 else 'seconds'}.", usage=Usage(3, 4, model="tour")
        )

    async def trouble(self, word: str) -> AsyncIterator[Part]:
        """An error that the agent tells of, or one that happens to it."""
        if word == "fail":
            raise Permanent("you asked me to fail")
        yield Reply("This is what an error looks like.", type="error", error="You asked for one.")


def _ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
