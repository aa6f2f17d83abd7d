"""What people get of what a model writes: whole characters, thinking apart, and a word where an answer was cut off."""

from __future__ import annotations

import json

import pytest
from pydantic_ai.exceptions import ModelRetry

from supervisor.handler import HistoryItem, Reply, Thinking, ToolCall, ToolResult
from tests.support.fake_mcp import Tool, fake_mcp
from tests.support.fake_models import Answer
from tests.support.lone_assistants import lone_assistant

PROVIDERS = [("openai", "gpt-4o"), ("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")]


@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
async def test_halves_of_an_emoji_that_come_apart_are_joined_and_a_lone_one_costs_nothing(
    provider: str, model: str
) -> None:
    async with lone_assistant(provider, model) as assistant:
        assistant.models.say(Answer(pieces=("Hi \ud83d", "\ude00 there")), Answer(pieces=("Cut \ud83d",)))
        assert (await assistant.ask()).content == "Hi \U0001f600 there"
        assert (await assistant.ask()).content == "Cut \ufffd"


@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
@pytest.mark.parametrize(("city", "told"), [("\ud83d\ude00", "\U0001f600"), ("Cut \ud83d", "Cut \ufffd")])
async def test_halves_in_a_tools_arguments_are_too_whatever_was_thought_before(
    provider: str, model: str, city: str, told: str
) -> None:
    async with fake_mcp() as tools, lone_assistant(provider, model, servers={"We": tools}) as assistant:
        call = ("mcp__We__weather", {"city": city})
        assistant.models.say(Answer(thinking="Hm \ud83d\x1b", tool_calls=(call,)), Answer("Sunny."))
        thinking, called, result, reply = await assistant.parts()
        assert isinstance(thinking, Thinking)
        assert thinking.content == "Hm \ufffd"
        assert isinstance(called, ToolCall)
        assert json.loads(called.arguments_json) == {"city": told}
        assert isinstance(result, ToolResult)
        assert result.result == f"It is sunny in {told}."
        assert tools.calls == [("weather", {"city": told})]
        assert reply == Reply("Sunny.")


@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
async def test_halves_in_what_was_said_cost_no_answer(provider: str, model: str) -> None:
    async with lone_assistant(provider, model) as assistant:
        assistant.said += [HistoryItem("user", "Cut \ud83d", 0.0), HistoryItem("assistant", "\ude00 begins", 0.0)]
        assert (await assistant.ask("Now \ud83d\ude00 and \ud83d")).content == "Hello."
        said = assistant.models.requests[0].said
        assert "Cut \ufffd" in said
        assert "\ufffd begins" in said
        assert "Now \U0001f600 and \ufffd" in said


HALF = "Cut \ud83d\x07"


def own() -> list[str]:
    """A list."""
    return [HALF]


def words() -> None:
    """Words for the model."""
    raise ModelRetry(HALF)


@pytest.mark.parametrize("streams", [False, True])
async def test_half_a_character_in_what_a_tool_says_costs_no_answer(streams: bool) -> None:
    async with (
        fake_mcp(Tool("cut", lambda _: HALF)) as tools,
        lone_assistant(servers={"We": tools}, functions=[own, words]) as assistant,
    ):
        tools.streams = streams
        calls: tuple[tuple[str, dict[str, str]], ...] = (("own", {}), ("words", {}), ("mcp__We__cut", {}))
        assistant.models.say(Answer(tool_calls=calls), Answer("Done."))
        parts = await assistant.parts()
        shown = {one.call.name: one.result for one in parts if isinstance(one, ToolResult)}
        # What moves a cursor is for no person; a model may have it.
        assert shown == {"own": ["Cut \ufffd"], "words": "Cut \ufffd", "mcp__We__cut": "Cut \ufffd"}
        assert assistant.models.requests[-1].said.count("Cut \ufffd") == 3
        assert parts[-1] == Reply("Done.")


@pytest.mark.parametrize("streams", [False, True])
async def test_a_tool_server_that_never_comes_to_an_end_costs_that_call(streams: bool) -> None:
    huge = "x" * (33 * 1024 * 1024)
    async with fake_mcp(Tool("huge", lambda _: huge)) as tools, lone_assistant(servers={"We": tools}) as assistant:
        tools.streams = streams
        assistant.models.say(Answer(tool_calls=(("mcp__We__huge", {}),)), Answer("Too much."))
        _, result, reply = await assistant.parts()
        assert isinstance(result, ToolResult)
        assert not result.success
        assert reply == Reply("Too much.")


@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
async def test_what_controls_a_screen_or_turns_words_around_is_no_part_of_an_answer(provider: str, model: str) -> None:
    async with lone_assistant(provider, model) as assistant:
        assistant.models.say(Answer(pieces=("\x1b[2J\x00Pay ", "\u202e0001\u202c to\r\n", "\tשבת\u200f\x9b")))
        assert (await assistant.ask()).content == "[2JPay 0001\u202c to\n\tשבת\u200f"


@pytest.mark.parametrize(
    "pieces",
    [
        ("<think>", "Hm.", "</think>", "Hello."),
        ("<th", "ink>Hm.</thi", "nk>Hello."),
        ("<think>Hm.</think>Hello.",),
        ("Hm.</think>", "Hello."),
    ],
)
async def test_thinking_in_the_text_is_shown_as_thinking(pieces: tuple[str, ...]) -> None:
    async with lone_assistant() as assistant:
        assistant.models.say(Answer(pieces=pieces))
        thinking, reply = await assistant.parts()
        assert isinstance(thinking, Thinking)
        assert isinstance(reply, Reply)
        assert (thinking.content, reply.content) == ("Hm.", "Hello.")


@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
async def test_an_answer_that_was_cut_off_says_so(provider: str, model: str) -> None:
    async with lone_assistant(provider, model) as assistant:
        assistant.models.say(Answer("It begins and", finish="length"), Answer(thinking="Hm, hm.", finish="length"))
        reply = await assistant.ask()
        assert reply.content.startswith("It begins and\n\n[This answer was cut off here")
        apology = await assistant.ask()
        assert (apology.type, "longer than I may write" in apology.content) == ("error", True)


@pytest.mark.parametrize("letter", ["ü", "\U0001f600"])
async def test_an_answer_above_the_platforms_size_comes_in_parts(letter: str) -> None:
    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}) as assistant:
        text = "\n\n".join(f"Paragraph {number}. {letter * 900}" for number in range(400))
        call = ("mcp__We__weather", {"city": "Ulm"})
        assistant.models.say(Answer(text, thinking=letter * 400_000, tool_calls=(call,)), Answer(text))
        parts = await assistant.parts()
        tool = next(n for n, part in enumerate(parts) if isinstance(part, ToolCall))
        for said in (parts[:tool], parts[tool:]):
            pieces = [part.content for part in said if isinstance(part, Reply)]
            assert len(pieces) > 1
            assert "\n\n".join(pieces) == text
