"""The sample agents: what each stop of the tour shows, and that its calculator only calculates."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from supervisor.handler import Context, HistoryItem, Message, Part, Permanent, Reply, Thinking, ToolCall, ToolResult
from supervisor.handlers import HandlerLoader, MountedHandler, to_outbound
from supervisor.protocol import check_outbound
from tests.support.paths import ROOT

AGENTS = ROOT / "agents"


class Conversation:
    """The little of a context that the samples use."""

    def __init__(self) -> None:
        self.typings = 0
        self.said: list[HistoryItem] = []

    def typing(self, on: bool = True) -> None:
        self.typings += on

    async def history(self, limit: int = 20) -> list[HistoryItem]:
        return self.said[-limit:]


@pytest.fixture(scope="module")
def loader() -> HandlerLoader:
    return HandlerLoader(AGENTS)


@pytest.fixture(scope="module")
def tour(loader: HandlerLoader) -> ModuleType:
    loader.load("tour")
    return sys.modules["supervisor_agents.tour"]


async def ask(handler: MountedHandler, text: str, conversation: Conversation | None = None) -> list[Part]:
    message = Message(conversation_id="c" * 24, role="user", content=text)
    return [part async for part in handler.parts(message, cast("Context", conversation or Conversation()))]


@pytest.fixture
def visit(loader: HandlerLoader) -> Callable[..., Any]:
    handler = loader.load("tour")

    async def stop(text: str, conversation: Conversation | None = None) -> list[Part]:
        parts = await ask(handler, text, conversation)
        for part in parts:
            check_outbound(to_outbound(part, conversation_id="c" * 24, agent_id="a" * 24), 100_000)
        return parts

    return stop


def the_reply(parts: list[Part]) -> Reply:
    reply = parts[-1]
    assert isinstance(reply, Reply)
    return reply


async def test_echo_says_back_what_it_is_told(loader: HandlerLoader) -> None:
    assert await ask(loader.load("echo"), "hello\nthere") == ["Echo: hello\nthere"]


async def test_samples_import_only_the_handler_api() -> None:
    for path in AGENTS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("supervisor"):
                assert node.module == "supervisor.handler", path.name


@pytest.mark.parametrize(
    ("asked", "value"), [("6 * 7", 42), ("6*7 = ?", 42), ("-(2 + 3) / 2", -2.5), ("7 // 2 % 2", 1), ("1.5 + 1.5", 3)]
)
async def test_a_sum_shows_thinking_a_tool_call_its_result_and_the_answer(visit: Any, asked: str, value: float) -> None:
    thinking, call, result, reply = await visit(asked)
    assert isinstance(thinking, Thinking)
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert isinstance(reply, Reply)
    assert result.call is call
    assert result.success
    assert result.result == {"value": value}
    assert reply.content.endswith(f"= {value}")
    assert reply.usage is not None


@pytest.mark.parametrize("asked", ["1 / 0", "2 +", "9 % 0", "1.2.3 + 1", "007 + 1", "2 ** 3"])
async def test_a_sum_without_a_result_is_a_tool_that_failed(visit: Any, asked: str) -> None:
    _, call, result, reply = await visit(asked)
    assert (result.call, result.success) == (call, False)
    assert result.error
    assert reply.content.startswith("I cannot work that out")


@pytest.mark.parametrize("asked", ["What time is it?", "clock"])
async def test_the_clock_is_a_tool_without_arguments(visit: Any, asked: str) -> None:
    call, result, reply = await visit(asked)
    assert call.arguments_json == "{}"
    assert result.result["utc"].endswith("+00:00")
    assert "UTC" in reply.content


async def test_attachments_of_both_kinds(visit: Any) -> None:
    [reply] = await visit("attach")
    assert [a.split(":")[0] for a in reply.attachments] == ["https", "document"]
    assert [source.type for source in reply.sources] == ["web"]


async def test_history_shows_what_was_said(visit: Any) -> None:
    conversation = Conversation()
    assert the_reply(await visit("history", conversation)).content == "We have not said anything yet."
    conversation.said = [HistoryItem("user", "hi\nthere", 1.0), HistoryItem("assistant", "\n", 2.0)]
    conversation.said.append(HistoryItem("assistant", "hello", 3.0))
    content = the_reply(await visit("history", conversation)).content
    assert "user: hi" in content
    assert "assistant: hello" in content


async def test_slow_types_all_the_while(visit: Any) -> None:
    conversation = Conversation()
    reply = the_reply(await visit("slow 0.01", conversation))
    assert reply.content == "That took 0.01 seconds."
    assert conversation.typings == 1


@pytest.mark.parametrize("asked", ["slow nan", "slow down", "slow 1e"])
async def test_slow_wants_a_number(visit: Any, asked: str) -> None:
    assert await visit(asked) == ["Say slow and a number of seconds."]


async def test_an_error_message(visit: Any) -> None:
    reply = the_reply(await visit("error"))
    assert (reply.type, reply.error) == ("error", "You asked for one.")


async def test_a_handler_that_fails(visit: Any) -> None:
    with pytest.raises(Permanent):
        await visit("fail")


@pytest.mark.parametrize("asked", ["help", "Hi", "hello", "?", "tour"])
async def test_help_names_every_stop(visit: Any, asked: str) -> None:
    content = the_reply(await visit(asked)).content
    for stop in ("6 * 7", "time", "attach", "history", "slow", "error", "fail"):
        assert stop in content


@pytest.mark.parametrize("asked", ["nice weather", "7", "-", "sometimes I wonder", "slowly now"])
async def test_anything_else_is_said_back_with_what_it_cost(visit: Any, asked: str) -> None:
    reply = the_reply(await visit(asked))
    assert reply.content.startswith(f"You said: {asked}")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(asked.split())


expressions = st.recursive(
    st.integers(0, 1000).map(str) | st.floats(0, 1000, allow_nan=False).map(lambda f: f"{f:.3f}"),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(lambda t: f"({' '.join(t)})")
        | inner.map(lambda e: f"-{e}")
    ),
    max_leaves=8,
)


@given(expressions)
def test_it_works_out_what_python_does(tour: ModuleType, expression: str) -> None:
    try:
        expected = eval(expression)
    except ZeroDivisionError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError):
            tour.calculate(expression)
    else:
        assert tour.calculate(expression) == expected


@given(st.text(max_size=40))
def test_whatever_it_is_given_it_fails_in_one_way(tour: ModuleType, text: str) -> None:
    assume("**" not in text)
    with contextlib.suppress(ValueError):
        assert isinstance(tour.calculate(text), int | float)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "a",
        "'a' * 9",
        "[1]",
        "1 if 1 else 2",
        "2 ** 9",
        "1 << 9",
        "(1).real",
        "True + 1",
        "1j * 1j",
        "1,2",
        "",
        "(" * 500,
        "-" * 5000 + "1",
        "1" * 5000,
        "1\x00",
        "9" * 4000 + "*1.0",
        "1e308 * 1e308",
        "1e308 * 10 - 1e308 * 10",
        "*".join(["9" * 4000] * 40),
    ],
)
def test_it_only_calculates(tour: ModuleType, text: str) -> None:
    with pytest.raises(ValueError):
        tour.calculate(text)


async def test_a_sum_that_is_too_long_is_refused_not_worked_out(visit: Any) -> None:
    reply = the_reply(await visit("*".join(["9" * 40] * 40)))
    assert reply.content.startswith("I cannot work that out")


def test_what_a_row_may_set_of_a_handler_is_what_it_reads(loader: HandlerLoader) -> None:
    read = {}
    for name, module, options in (
        ("assistant", "assistant.settings", "AssistantSettings"),
        ("webhook", "webhook", "Options"),
        ("command", "command", "Options"),
    ):
        said = loader.load(name).settings
        model = getattr(sys.modules[f"supervisor_agents.{module}"], options)
        read[name] = said, tuple(getattr(model, "model_fields", None) or model.__struct_fields__)
    assert all(said == fields for said, fields in read.values()), read
