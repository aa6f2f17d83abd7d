"""The assistant where there is more than a model can take in: what it leaves out, and what it learns from refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from supervisor.handler import HistoryItem, Sender
from tests.support.fake_mcp import Tool, fake_mcp
from tests.support.fake_models import Answer, Request, refusal
from tests.support.lone_assistants import LoneAssistant, lone_assistant

#: What a server says that gives no figure.
VAGUE = [
    "the request exceeds the available context size, try increasing it",
    "prompt too long; exceeded max context length",
    "the prompt is longer than the model's context length",
    "Input is too long for requested model.",
]


def conversation(assistant: LoneAssistant, turns: int, text: str = "x" * 400) -> None:
    """So many earlier turns, each message about 100 tokens."""
    for number in range(turns):
        assistant.said.append(HistoryItem("user", f"Question {number}? {text}", 0.0))
        assistant.said.append(HistoryItem("assistant", f"Answer {number}. {text}", 0.0))


def takes(characters: int, refused: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    """A model that takes so many characters."""
    return lambda request: refused(request) if len(request.said) > characters else Answer("Short enough.")


async def test_the_model_hears_who_speaks_what_day_it_is_and_what_the_row_adds() -> None:
    async with lone_assistant(instruction_extra="Prices are in euros.") as assistant:
        await assistant.ask("hello", sender=Sender(id="1", name="Ana", platform="discord"))
        said = assistant.models.requests[-1].said
        assert 'hello\n\n[Sent by {"name": "Ana", "platform": "discord"}]' in said
        assert "Prices are in euros." in said
        assert "Today is " in said


@pytest.mark.parametrize("message", VAGUE)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_a_conversation_is_shortened_until_it_fits_and_the_next_message_begins_so(
    status: int, message: str
) -> None:
    async with lone_assistant() as assistant:
        conversation(assistant, 16)
        # Two halvings are needed.
        assistant.models.otherwise = takes(4500, lambda _: refusal(status, message))
        assert (await assistant.ask("And now?")).content == "Short enough."
        assert len(assistant.models.requests) == 3
        last = assistant.models.requests[-1].said
        assert "Question 15?" in last
        assert "And now?" in last
        assert "Question 3?" not in last
        before = len(assistant.models.requests)
        assert (await assistant.ask("And then?")).content == "Short enough."
        assert len(assistant.models.requests) - before <= 2, "what it takes was learned"
        assert assistant.health is None


@pytest.mark.parametrize(
    ("provider", "model", "status", "said"),
    [
        (
            "openai",
            "m",
            400,
            "This model's maximum context length is {limit} tokens. However, you requested {asked} tokens.",
        ),
        ("openai", "m", 400, "request ({asked} tokens) exceeds the available context size ({limit} tokens)"),
        ("openai", "m", 400, "This model's maximum prompt length is {limit} but the request contains {asked} tokens."),
        ("openai", "m", 429, "Request too large on tokens per min (TPM): Limit {limit}, Requested {asked}."),
        ("anthropic", "claude-opus-5", 400, "prompt is too long: {asked} tokens > {limit} maximum"),
        ("google", "g", 400, "The input token count ({asked}) exceeds the maximum number of tokens allowed ({limit})."),
    ],
)
async def test_a_limit_that_is_told_is_kept_to_in_the_models_own_count(
    provider: str, model: str, status: int, said: str
) -> None:
    limit = 2000

    def answers(request: Request) -> Answer:
        # It counts two characters a token, where four are estimated.
        asked = len(request.said) // 2
        if asked <= limit:
            return Answer("Short enough.")
        text = said.format(limit=limit, asked=asked)
        return Answer(status=status, error={"error": {"message": text, "type": "error", "status": "INVALID_ARGUMENT"}})

    async with lone_assistant(provider, model) as assistant:
        conversation(assistant, 16)
        assistant.models.otherwise = answers
        assert (await assistant.ask("And now?")).content == "Short enough."
        assert len(assistant.models.requests) == 2
        kept = len(assistant.models.requests[-1].said) // 2
        assert limit / 3 < kept <= limit
        await assistant.ask("And then?")
        assert len(assistant.models.requests) == 3


async def test_any_refusal_that_nothing_else_explains_is_tried_once_shorter() -> None:
    async with lone_assistant() as assistant:
        conversation(assistant, 8)
        assistant.models.otherwise = takes(4500, lambda _: refusal(422, "Unprocessable"))
        assert (await assistant.ask("And now?")).content == "Short enough."
        assert len(assistant.models.requests) == 2
        # It may have been anything: nothing is learned from it.
        assistant.models.otherwise = refusal(422, "Unprocessable")
        reply = await assistant.ask("And then?")
        assert (reply.type, len(assistant.models.requests)) == ("error", 4)


async def test_tools_results_are_cut_where_nothing_else_can_be_left_out() -> None:
    async with (
        fake_mcp(Tool("long", lambda _: "z" * 60_000)) as tools,
        lone_assistant(servers={"We": tools}) as assistant,
    ):
        assistant.models.say(Answer(tool_calls=(("mcp__We__long", {}),)))
        assistant.models.otherwise = takes(20_000, lambda _: refusal(400, VAGUE[0]))
        assert (await assistant.ask("Look it up.")).content == "Short enough."
        assert "more characters are left out" in assistant.models.requests[-1].said
        assert "Look it up." in assistant.models.requests[-1].said


async def test_a_message_that_is_too_large_by_itself_is_said_so_in_words_that_are_true() -> None:
    async with lone_assistant() as assistant:
        conversation(assistant, 2)
        assistant.models.otherwise = takes(5000, lambda _: refusal(400, VAGUE[0]))
        apology = await assistant.ask("y" * 6000)
        assert apology.type == "error"
        assert (
            apology.content
            == "Sorry, this message is more than I can take in at once. Please send it in smaller parts."
        )
        assert assistant.health is None
        # A part of it is taken, though the whole is still in the conversation.
        assert (await assistant.ask("y" * 3000)).content == "Short enough."


async def test_what_is_not_latin_counts_a_token_a_character() -> None:
    async with lone_assistant(history_tokens=8000) as assistant:
        for number in range(10):
            assistant.said.append(HistoryItem("user", f"{number}" + "汉" * 3000, 0.0))
            assistant.said.append(HistoryItem("assistant", "好" * 100, 0.0))
        await assistant.ask("那么")
        sent = assistant.models.requests[-1].said
        assert 3000 <= sent.count("汉") <= 8000


async def test_a_fallback_has_a_window_of_its_own() -> None:
    def answers(request: Request) -> Answer:
        return refusal(400, VAGUE[0]) if request.model == "small" else Answer("All of it.")

    async with lone_assistant(model="small", fallback_models="openai:large") as assistant:
        conversation(assistant, 4)
        assistant.models.otherwise = answers
        assert (await assistant.ask("And now?")).content == "All of it."
        assert "Question 0?" in assistant.models.requests[-1].said


async def test_a_refusal_of_one_agents_request_spares_the_others() -> None:
    async with lone_assistant() as first, lone_assistant() as second:
        second.settings.update(first.settings)
        for assistant in (first, second):
            conversation(assistant, 16)
        text = "maximum context length is 2000 tokens, you requested 3300 tokens"
        first.models.otherwise = takes(8000, lambda _: refusal(400, text))
        await first.ask("And now?")
        asked = len(first.models.requests)
        assert (await second.ask("And now?")).content == "Short enough."
        assert len(first.models.requests) == asked + 1
