"""What people get of what a model writes: whole characters, thinking apart, and a word where an answer was cut off."""

from __future__ import annotations

import pytest

from supervisor.handler import Reply, Thinking
from tests.support.fake_mcp import fake_mcp
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


async def test_halves_in_a_tools_arguments_are_joined_too() -> None:
    async with fake_mcp() as tools, lone_assistant(servers={"We": tools}) as assistant:
        assistant.models.say(Answer(tool_calls=(("mcp__We__weather", {"city": "\ud83d\ude00"}),)), Answer("Sunny."))
        assert (await assistant.ask()).content == "Sunny."
        assert tools.calls == [("weather", {"city": "\U0001f600"})]


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


async def test_an_answer_above_the_platforms_size_comes_in_parts() -> None:
    async with lone_assistant() as assistant:
        text = "\n\n".join(f"Paragraph {number}. {'ü' * 900}" for number in range(400))
        assistant.models.say(Answer(text))
        parts = [part.content for part in await assistant.parts() if isinstance(part, Reply)]
        assert len(parts) > 1
        assert "\n\n".join(parts) == text
