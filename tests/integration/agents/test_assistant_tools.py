"""An author's own tools: called, shown and bounded as a server's are, and no trouble of theirs ends an answer."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelRetry

from supervisor.handler import Context, Reply, ToolCall, ToolResult
from supervisor.testing import FakeContext, ask
from tests.support.assistants import ONLINE_SECONDS, assistants
from tests.support.fake_mcp import Tool, fake_mcp
from tests.support.fake_models import MODEL_KEY, Answer, FakeModels, Request, fake_models
from tests.support.lone_assistants import KEY, lone_assistant
from tests.support.observing import handlers_folder
from tests.support.stack import SECRET

LOOK = Answer(tool_calls=(("weather", {"city": "Ulm"}),))


def weather(city: str) -> str:
    """The weather of a city."""
    return f"It rains in {city}."


async def whom(ctx: Context) -> dict[str, Any]:
    """For whom this is."""
    return {"agent": ctx.agent.name, "conversation": ctx.conversation}


def results(parts: list[Any]) -> list[ToolResult]:
    return [one for one in parts if isinstance(one, ToolResult)]


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o"), ("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")],
)
async def test_a_function_is_called_and_shown_as_a_servers_tool_is(provider: str, model: str) -> None:
    async with lone_assistant(provider, model, functions=[weather, whom]) as assistant:
        assistant.models.say(LOOK, Answer(tool_calls=(("whom", {}),)), Answer("Take an umbrella."))
        call, result, _, second, reply = await assistant.parts()
        first, then, last = assistant.models.requests
        assert first.tools == ["weather", "whom"]
        assert isinstance(call, ToolCall)
        assert (call.name, call.arguments) == ("weather", '{"city":"Ulm"}')
        assert isinstance(result, ToolResult)
        assert (result.call, result.result, result.success) == (call, "It rains in Ulm.", True)
        assert "It rains in Ulm." in then.said
        assert isinstance(second, ToolResult)
        assert second.result == {"agent": "Agent", "conversation": assistant.ctx.conversation}
        assert assistant.ctx.conversation in last.said
        assert isinstance(reply, Reply)
        assert reply.content == "Take an umbrella."
        assert assistant.ctx.tools == ["weather", "whom"]
        assert assistant.health is None


async def test_what_the_model_gives_wrongly_it_hears_and_may_mend() -> None:
    async with lone_assistant(functions=[weather]) as assistant:
        wrong = [Answer(tool_calls=(("weather", {"town": n}),)) for n in range(6)]
        assistant.models.say(*wrong, LOOK, Answer("It rains."))
        parts = await assistant.parts()
        *failed, good = results(parts)
        assert [one.success for one in failed] == [False] * 6
        assert failed[0].error == (
            "The arguments are wrong. city: Field required; town: Extra inputs are not permitted"
        )
        assert "city: Field required" in assistant.models.requests[1].said
        assert good.result == "It rains in Ulm."


async def test_its_own_trouble_ends_that_call_alone_and_its_words_stay_here() -> None:
    def breaks(city: str) -> str:
        """Break."""
        raise LookupError(f"nothing for {city} at https://me:hush@weather.example/")

    def leaves() -> str:
        """Leave."""
        raise SystemExit(1)

    async def knows() -> str:
        """Tell the model what is wrong."""
        raise ModelRetry("Ask for a larger city.")

    async with lone_assistant(functions=[breaks, leaves, knows]) as assistant:
        calls: tuple[tuple[str, dict[str, str]], ...] = (("breaks", {"city": "Ulm"}), ("leaves", {}), ("knows", {}))
        assistant.models.say(Answer(tool_calls=calls), Answer("I could not look it up."))
        parts = await assistant.parts()
        errors = {one.call.name: one.error for one in results(parts)}
        assert errors == {
            "breaks": "The tool failed (LookupError).",
            "leaves": "The tool failed (EscapeError).",
            "knows": "Ask for a larger city.",
        }
        assert parts[-1] == Reply("I could not look it up.")
        assert "hush" not in "".join(request.said for request in assistant.models.requests)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o"), ("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")],
)
async def test_a_number_that_json_has_not_is_no_result(provider: str, model: str) -> None:
    def mean() -> float:
        """The mean of nothing."""
        return float("nan")

    def bounds() -> dict[str, float]:
        """The bounds of nothing."""
        return {"least": float("-inf"), "most": 3.0}

    async with lone_assistant(provider, model, functions=[mean, bounds]) as assistant:
        assistant.models.say(Answer(tool_calls=(("mean", {}), ("bounds", {}))), Answer("Of nothing."))
        parts = await assistant.parts()
        found = {one.call.name: one.result for one in results(parts)}
        assert found == {"mean": "Done; there is nothing to tell.", "bounds": {"least": None, "most": 3.0}}
        assert parts[-1] == Reply("Of nothing.")


async def test_arguments_that_only_python_reads_are_shown_as_they_are() -> None:
    def double(number: float) -> float:
        """Twice the number."""
        return number * 2

    async with lone_assistant(functions=[double]) as assistant:
        assistant.models.say(Answer(tool_calls=(("double", {"number": float("inf")}),)), Answer("Endless."))
        call, result, reply = await assistant.parts()
        assert isinstance(call, ToolCall)
        assert json.loads(str(call.arguments)) == {"arguments": '{"number":Infinity}'}
        assert isinstance(result, ToolResult)
        assert reply == Reply("Endless.")


async def test_one_that_hangs_is_given_up_in_a_thread_too() -> None:
    go = threading.Event()

    def blocks() -> None:
        """Block."""
        go.wait(20)

    async def waits() -> None:
        """Wait."""
        await asyncio.Event().wait()

    async with lone_assistant(functions=[blocks, waits], tool_seconds=0.2) as assistant:
        assistant.models.say(Answer(tool_calls=(("blocks", {}), ("waits", {}))), Answer("It takes too long."))
        try:
            parts = await assistant.parts()
        finally:
            go.set()
        assert {one.error for one in results(parts)} == {"The tool did not answer within 0.2 s."}
        assert parts[-1] == Reply("It takes too long.")


async def test_what_a_message_may_cost_and_its_steps_bound_it_as_they_bound_a_servers() -> None:
    def answers(request: Request) -> Answer:
        last = "No tool can be used any more" in request.said
        return Answer("All I know.", usage=(60, 20, 0)) if last else replace(LOOK, usage=(60, 20, 0))

    bounds: list[tuple[dict[str, Any], int]] = [({"budget_message_tokens": 100}, 1), ({"max_steps": 3}, 2)]
    for bound, calls in bounds:
        async with lone_assistant(functions=[weather], **bound) as assistant:
            assistant.models.otherwise = answers
            parts = await assistant.parts("How is the weather?")
            assert parts[-1] == Reply("All I know.")
            assert len(results(parts)) == calls
            assert sum(call.total_tokens for call in assistant.calls) == 80 * (calls + 1)


class Odd:
    """No JSON."""

    def __str__(self) -> str:
        return "odd"


async def test_results_become_text_or_json_within_the_bound() -> None:
    def long() -> list[str]:
        """A lot."""
        return ["word"] * 1000

    def nothing() -> None:
        """Nothing."""

    def odd() -> list[Any]:
        """Odd things."""
        return [Odd(), {"a": {1, 2}}, b"bytes"]

    async with (
        fake_mcp(Tool("long", lambda _: "word " * 1000)) as server,
        lone_assistant(servers={"We": server}, functions=[long, nothing, odd], tool_result_chars=200) as assistant,
    ):
        calls: list[tuple[str, dict[str, str]]] = [(name, {}) for name in ("long", "nothing", "odd", "mcp__We__long")]
        assistant.models.say(Answer(tool_calls=tuple(calls)), Answer("So much."))
        parts = await assistant.parts()
        told = {one.call.name: one.result for one in results(parts)}
        assert told["mcp__We__long"] == "word " * 40 + "…\n[4800 more characters are left out]"
        assert told["mcp__We__long"] in assistant.models.requests[-1].texts, "the model has no more of it"
        assert told["long"].startswith('["word", "word"')
        assert told["long"].endswith("more characters are left out]")
        assert told["nothing"] == "Done; there is nothing to tell."
        assert told["odd"] == ["odd", {"a": [1, 2]}, "bytes"]


async def test_its_own_come_before_a_servers_tool_of_the_same_name() -> None:
    async def mcp__We__weather(city: str) -> str:
        """The weather."""
        return f"mine of {city}"

    async with (
        fake_mcp() as server,
        lone_assistant(servers={"We": server}, functions=[mcp__We__weather]) as assistant,
    ):
        assistant.models.say(Answer(tool_calls=(("mcp__We__weather", {"city": "Ulm"}),)), Answer("Well."))
        parts = await assistant.parts()
        assert assistant.models.requests[0].tools == ["mcp__We__weather", "mcp__We__thermometer"]
        assert [one.result for one in results(parts)] == ["mine of Ulm"]
        assert server.calls == []
        assert assistant.health == ("tool weather of We is left out: mcp__We__weather is one of the agent's own")


async def test_tools_that_are_no_list_are_said_in_health() -> None:
    async with lone_assistant(functions=weather) as assistant:
        assert assistant.health == "the handler's tools are left out: they are no list; write tools = [...]"
        assert (await assistant.ask()).content == "Hello."


async def test_one_that_cannot_be_a_tool_is_said_in_health_and_the_agent_answers() -> None:
    def bare(city: str) -> str:
        return city

    def again(city: str) -> str:
        """Another."""
        return city

    again.__name__ = "weather"
    async with lone_assistant(functions=[weather, bare, again]) as assistant:
        wrong = (
            "tool bare is left out: it has no docstring; say in one what it does; "
            "there is another tool weather: the second is left out, rename it"
        )
        # Before anybody asks, and after an answer.
        assert assistant.health == wrong
        assert (await assistant.ask()).content == "Hello."
        assert assistant.models.requests[0].tools == ["weather"]
        assert assistant.health == wrong


TOOLS = '''
from supervisor.handler import Context

async def shelf(fruit: str, ctx: Context) -> str:
    """Where a fruit lies in the shop."""
    return f"{fruit}: shelf 7 of {ctx.settings['shop']}"

tools = [shelf]
'''
HELPER = '''
from supervisor_bundled.assistant import Assistant

def price(fruit: str) -> float:
    """What a fruit costs, in euros."""
    return 3.5

class Helper(Assistant):
    tools = [price]
'''


def row(models: FakeModels, **more: Any) -> dict[str, Any]:
    return {"model": "openai:gpt-4o", "base_url": models.openai_url, "api_key": KEY, **more}


async def test_an_authors_handler_is_tested_alone_with_its_tools(tmp_path: Path) -> None:
    folder = handlers_folder(tmp_path, {"helper": HELPER, "shop_tools": TOOLS})
    async with fake_models() as models:
        models.say(
            Answer(tool_calls=(("price", {"fruit": "pear"}), ("shelf", {"fruit": "pear"}))),
            Answer("3.50 euros, there."),
        )
        ctx = FakeContext(
            settings=row(models, tools="shop_tools", shop="Ulm"), instruction="Be brief.", secrets={KEY: MODEL_KEY}
        )
        reply = await ask("helper", "A pear?", ctx, agents_dir=folder)
        assert reply.content == "3.50 euros, there."
        assert models.requests[0].tools == ["price", "shelf"]
        found = {one.call.name: one.result for one in results(ctx.parts)}
        assert found == {"price": 3.5, "shelf": "pear: shelf 7 of Ulm"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("shp_tools", "tools of shp_tools are left out: There is no handler 'shp_tools'"),
        (
            "shop_tools:missing",
            "tools of shop_tools:missing are left out: Handler 'shop_tools:missing': its module has no",
        ),
        ("broken", "tools of broken are left out: Handler 'broken' fails to load: ZeroDivisionError"),
        ("os.path:join", "tools of os.path:join are left out: Handlers of package 'os' are not allowed"),
        ("../shop_tools", "tools of ../shop_tools are left out: '../shop_tools:tools' is no handler"),
        ("tour", "tools of tour are left out: There is no handler 'tour'"),
        (
            "shop_tools:Context",
            "tools of shop_tools:Context are left out: Handler 'shop_tools:Context': 'Context' is not",
        ),
        ("shop_tools:shelf", None),
        ("shop_tools, shop_tools:shelf", None),
    ],
)
async def test_a_row_names_modules_by_the_rules_of_handlers(tmp_path: Path, given: str, said: str | None) -> None:
    folder = handlers_folder(tmp_path, {"shop_tools": TOOLS, "broken": "1 / 0"})
    async with assistants(tmp_path, agents_dir=folder) as fleet:
        identity = await fleet.add(tools=given)
        assert (await fleet.ask(identity, "hello"))[-1].content == "Hello."
        assert fleet.models.requests[0].tools == ([] if said else ["shelf"])
        health = fleet.health(identity)
        assert health.startswith(f"failing: {said}") if said else health == "ok"


async def test_a_days_budget_that_ends_between_two_steps_ends_the_answer(tmp_path: Path) -> None:
    folder = handlers_folder(tmp_path, {"shop_tools": TOOLS})
    async with assistants(tmp_path, agents_dir=folder) as fleet:
        fleet.models.say(Answer(tool_calls=(("shelf", {"fruit": "pear"}),), usage=(20, 4, 0)))
        identity = await fleet.add(tools="shop_tools", shop="Ulm", budget_tokens=10)
        parts = await fleet.ask(identity, "A pear?")
        assert [one.type for one in parts] == ["tool_call", "tool_result", "text"]
        assert "used up" in parts[-1].content
        assert len(fleet.models.requests) == 1


THREADS = '''
import threading

def thread() -> str:
    """Where it runs."""
    return threading.current_thread().name

tools = [thread]
'''


async def test_a_plain_function_runs_in_a_handlers_thread(tmp_path: Path) -> None:
    async with assistants(tmp_path, agents_dir=handlers_folder(tmp_path, {"threads": THREADS})) as fleet:
        fleet.models.say(Answer(tool_calls=(("thread", {}),)), Answer("There."))
        identity = await fleet.add(tools="threads")
        call, result, reply = await fleet.ask(identity, "Where?")
        assert call.document["toolCalls"][0]["function"] == {"name": "thread", "arguments": "{}"}
        assert result.document["toolResults"][0]["result"].startswith("handler-")
        assert reply.content == "There."


async def test_the_platform_does_not_choose_what_code_is_run(tmp_path: Path) -> None:
    folder = handlers_folder(tmp_path, {"shop_tools": TOOLS})
    async with assistants(tmp_path, agents_dir=folder) as fleet:
        identity = await fleet.add(online=False)
        fleet.stack.sandbox.add_agent(identity, SECRET, instruction="Be brief.", settings={"tools": "shop_tools"})
        await fleet.stack.online(1, ONLINE_SECONDS)
        assert (await fleet.ask(identity, "hello"))[-1].content == "Hello."
        assert fleet.models.requests[0].tools == []
