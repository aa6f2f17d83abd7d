"""An assistant that sums up what its conversation has no room for: beside its answers, and within a budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from supervisor.handler import Budget, HistoryItem, Remembered
from supervisor.settings.secrets import generate_key
from tests.support.assistants import ONLINE_SECONDS, assistants
from tests.support.fake_models import Answer, Request, refusal
from tests.support.lone_assistants import LoneAssistant, lone_assistant, part

NOTES = "They keep kumquats."


def sums_up(request: Request) -> bool:
    """Whether a request is for a summary."""
    return "You keep the notes" in request.said


def model(summary: Answer = Answer(NOTES)) -> Callable[[Request], Answer]:  # noqa: B008 - a value
    """One that answers, and sums up."""
    return lambda request: summary if sums_up(request) else Answer("Fine.", usage=(1000, 100, 0))


def conversation(assistant: LoneAssistant, turns: int, text: str = "x" * 380) -> None:
    """So many earlier turns, each message about 100 tokens."""
    first = len(assistant.said)
    for number in range(first, first + turns):
        assistant.said.append(HistoryItem("user", f"Question {number}? {text}", 0.0))
        assistant.said.append(HistoryItem("assistant", f"Answer {number}. {text}", 0.0))


def asked(assistant: LoneAssistant) -> list[Request]:
    """The requests for answers."""
    return [request for request in assistant.models.requests if not sums_up(request)]


def summed(assistant: LoneAssistant) -> list[Request]:
    """Those for summaries."""
    return [request for request in assistant.models.requests if sums_up(request)]


def lines(request: Request) -> list[dict[str, str]]:
    """What a request for a summary shows of the conversation."""
    text: str = request.body["messages"][-1]["content"]
    return [json.loads(line) for line in text.splitlines()]


async def remembered(assistant: LoneAssistant, before: Remembered | None = None) -> Remembered:
    """What it remembers, once that is something else than before."""
    async with asyncio.timeout(20):
        while assistant.ctx.memory in (None, before):
            await asyncio.sleep(0.01)
    assert assistant.ctx.memory is not None
    return assistant.ctx.memory


def questions(text: str) -> set[int]:
    """The numbers of the earlier questions that a text has."""
    return {number for number in range(100) if f"Question {number}?" in text}


async def test_what_has_no_room_is_summed_up_and_stands_there_as_that() -> None:
    async with lone_assistant(summarise=True, history_tokens=1000) as assistant:
        assistant.models.otherwise = model()
        conversation(assistant, 10)
        await assistant.ask("And now?")
        first = await remembered(assistant)
        [answered], [summary] = asked(assistant), summed(assistant)
        known = questions(summary.said)
        assert known | questions(answered.said) == set(range(10)), "nothing is in neither"
        assert questions(answered.said) - known == {8, 9}, "the newer half of it stays as it was said"
        assert first.text == NOTES

        await assistant.ask("And then?")
        said = [(one["role"], one["content"]) for one in asked(assistant)[-1].body["messages"]]
        assert NOTES not in said[0][1], "what people said is no part of the instruction"
        assert said[1] == ("user", f"[Your own notes on what was said before this:]\n{NOTES}")
        assert said[2][1].startswith("Question 8?")
        assert [text for _, text in said[-3:]] == ["And now?", "Fine.", "And then?"]
        assert len(summed(assistant)) == 1, "there is room for a while"


@pytest.mark.parametrize(("provider", "name"), [("anthropic", "claude-opus-5"), ("google", "gemini")])
async def test_it_is_asked_for_and_shown_in_each_providers_way(provider: str, name: str) -> None:
    async with lone_assistant(provider, name, summarise=True, history_tokens=1000) as assistant:
        assistant.models.otherwise = model()
        conversation(assistant, 10)
        await assistant.ask("And now?")
        assert (await remembered(assistant)).text == NOTES
        await assistant.ask("And then?")
        said = asked(assistant)[-1].said
        assert said.index("Be brief.") < said.index(NOTES) < said.index("Question 8?")
        assert questions(said) == {8, 9}


async def test_a_later_one_is_made_from_the_one_before_and_what_was_said_since() -> None:
    async with lone_assistant(summarise=True, history_tokens=1000) as assistant:
        assistant.models.otherwise = model()
        conversation(assistant, 10)
        await assistant.ask("And now?")
        first = await remembered(assistant)
        conversation(assistant, 4)
        assistant.models.otherwise = model(Answer("They keep kumquats and a cat."))
        await assistant.ask("And then?")
        second = await remembered(assistant, first)
        shown = lines(summed(assistant)[-1])
        assert shown[0] == {"notes": NOTES}
        assert [line["by"] for line in shown[1:3]] == ["a person", "you"]
        assert shown[1]["text"].startswith("Question 8?")
        assert second.text == "They keep kumquats and a cat."
        assert second.up_to_id > first.up_to_id


async def test_many_short_messages_are_lost_no_more_than_a_few_long_ones() -> None:
    async with lone_assistant(summarise=True, history_messages=10) as assistant:
        assistant.models.otherwise = model()
        conversation(assistant, 4, "")
        await assistant.ask("One?")
        assert summed(assistant) == [], "all of it was shown"
        seen: set[int] = set()
        before = None
        for turn in range(4):
            conversation(assistant, 4, "")
            await assistant.ask(f"Then {turn}?")
            before = await remembered(assistant, before) if turn == 0 else before
            await asyncio.sleep(0.05)
            seen |= questions("".join(request.said for request in assistant.models.requests))
        assert seen == {number for number in range(100) if f"Question {number}?" in str(assistant.said)}
        assert all(len(request.body["messages"]) <= 12 for request in asked(assistant))


@pytest.mark.parametrize(("summarise", "turns"), [(False, 10), (True, 3)])
async def test_without_the_setting_or_without_need_none_is_made(summarise: bool, turns: int) -> None:
    async with lone_assistant(summarise=summarise, history_tokens=1000) as assistant:
        assistant.said.append(HistoryItem("assistant", "Hello, ask me anything.", 0.0))
        conversation(assistant, turns)
        await assistant.ask("And now?")
        await assistant.ask("And then?")
        await asyncio.sleep(0.1)
        assert len(assistant.models.requests) == 2
        assert assistant.ctx.memory is None


async def test_what_a_smaller_model_has_no_room_for_is_summed_up_too_and_the_summary_goes_last() -> None:
    def answers(request: Request) -> Answer:
        if sums_up(request):
            return Answer(NOTES)
        return refusal(400, "prompt too long") if len(request.said) > 4000 else Answer("Fine.")

    async with lone_assistant(summarise=True) as assistant:
        assistant.models.otherwise = answers
        conversation(assistant, 8)
        await assistant.ask("And now?")
        await remembered(assistant)
        [summary] = summed(assistant)
        assert questions(summary.said) | questions(asked(assistant)[-1].said) == set(range(8))
        before = len(asked(assistant))
        await assistant.ask("And then?")
        assert len(asked(assistant)) == before + 1, "no refusal is needed any more"
        assert NOTES in asked(assistant)[-1].said
        # Whatever else has to go, the notes are the last to do.
        await assistant.ask("y" * 3500)
        assert NOTES in asked(assistant)[-1].said
        assert questions(asked(assistant)[-1].said) == set()
        await assistant.ask("y" * 3900)
        assert NOTES not in asked(assistant)[-1].said


async def test_nobody_waits_for_it_and_one_that_is_not_ready_at_the_stop_is_given_up() -> None:
    async with lone_assistant(summarise=True, history_tokens=1000) as assistant:
        assistant.models.otherwise = model(Answer(NOTES, delay=60))
        conversation(assistant, 10)
        async with asyncio.timeout(20):
            assert (await assistant.ask("And now?")).content == "Fine."
            assert (await assistant.ask("And then?")).content == "Fine."
        await asyncio.sleep(0.1)
        assert len(summed(assistant)) == 1, "one of each conversation at once"
    assert assistant.ctx.memory is None


@pytest.mark.parametrize("trouble", [refusal(401, "bad key"), Answer(""), Answer("x", status=500, error={})])
async def test_one_that_fails_costs_no_answer_and_is_not_tried_again_at_once(trouble: Answer) -> None:
    async with lone_assistant(summarise=True, history_tokens=1000) as assistant:
        assistant.models.otherwise = model(trouble)
        conversation(assistant, 10)
        assert (await assistant.ask("And now?")).content == "Fine."
        async with asyncio.timeout(20):
            while not summed(assistant):
                await asyncio.sleep(0.01)
        await assistant.settled()
        tried = len(summed(assistant))
        assert tried <= 3
        assert (await assistant.ask("And then?")).content == "Fine."
        await assistant.settled()
        assert len(summed(assistant)) == tried
        assert (assistant.ctx.memory, assistant.health) == (None, None)


async def test_long_messages_are_shown_by_their_beginnings_and_a_long_summary_is_cut() -> None:
    async with lone_assistant(summarise=True, history_tokens=1000, max_steps=1) as assistant:
        assistant.models.otherwise = model(Answer("n" * 50_000))
        for number in range(3):
            assistant.said.append(HistoryItem("user", f"Question {number}? " + "汉" * 50_000, 0.0))
            assistant.said.append(HistoryItem("assistant", f"Answer {number}.", 0.0))
        await assistant.ask("And now?")
        notes = await remembered(assistant)
        [summary] = summed(assistant)
        assert len(summary.said) < 3000
        assert questions(summary.said) == {0, 1, 2}
        assert "No tool can be used" not in summary.said
        # One that takes little need not write much.
        assert summary.body["max_completion_tokens"] == 1000
        assert len(notes.text) <= 1001


async def test_it_takes_a_tenth_of_the_budget_at_most_and_is_counted() -> None:
    budget = Budget(False, "", 0, 1_000_000, 0.0, None)
    async with lone_assistant(summarise=True, history_tokens=1000, budget=budget) as assistant:
        assistant.models.otherwise = model(Answer(NOTES, usage=(900, 100, 0)))
        conversation(assistant, 10)
        answers = 0
        while not summed(assistant):
            await assistant.ask("And now?")
            answers += 1100
            await assistant.settled()
            assert answers < 100_000
        assert sum(call.total_tokens for call in assistant.calls) == answers, "those of the last message's answer"
        assert assistant.ctx.used.total_tokens == 1100 + 1000
        # What it might have cost was its share, not what it did.
        assert answers * 0.1 >= 2000


@pytest.mark.parametrize(
    ("budget", "allowed"),
    [
        (Budget(False, "", 0, None, 0.0, None), True),
        (Budget(False, "", 0, 10**9, 0.0, None), False),
        (Budget(False, "", 0, None, 0.0, 5.0), False),
        (Budget(True, "spent", 9, 9, 0.0, None), False),
        (Budget(False, "", 0, None, 0.0, None, pending=True), False),
    ],
)
def test_without_a_budget_nothing_bounds_it_and_near_its_end_none_is_made(budget: Budget, allowed: bool) -> None:
    assert part("summaries").Share().allows(1, budget) is allowed


def test_its_share_is_of_what_the_days_answers_cost() -> None:
    budget = Budget(False, "", 0, 10**9, 0.0, None)
    share = part("summaries").Share(pending=100)
    share.count(answers=10_000, today=1)
    share.count(summaries=500, today=1)
    assert share.allows(400, budget)
    assert not share.allows(401, budget)
    # On another day what is under way still counts.
    share.count(answers=2000, today=2)
    assert share.allows(100, budget)
    assert not share.allows(101, budget)


async def test_a_message_that_is_replayed_is_told_nothing_of_what_came_after_it() -> None:
    async with lone_assistant(summarise=True) as assistant:
        await assistant.ask("One?")
        assistant.ctx.memory = Remembered("They will keep kumquats.", 10**6, 0.0)
        await assistant.ask("Two?")
        assert "kumquats" not in assistant.models.requests[-1].said
        assert "One?" in assistant.models.requests[-1].said


async def test_it_is_the_same_after_a_restart_and_goes_with_what_is_purged_and_nobody_reads_it(tmp_path: Path) -> None:
    keys = (SecretStr(generate_key()),)
    async with assistants(tmp_path, journal_encryption=True, secret_keys=keys) as fleet:
        fleet.models.otherwise = model(Answer("They keep tamarillos.", usage=(70, 30, 0)))
        identity = await fleet.add(summarise=True, history_tokens=400)
        user = await fleet.stack.sandbox.user()
        conversation_id = await user.open(identity)

        async def ask(text: str) -> Request:
            await fleet.answer(conversation_id, await user.say(conversation_id, text))
            return [request for request in fleet.models.requests if not sums_up(request)][-1]

        async def known() -> Remembered | None:
            return await fleet.stack.service.registry.journal.summaries.of(identity, conversation_id)

        for number in range(6):
            assert "tamarillos" not in (await ask(f"Question {number}? " + "x" * 380)).said
            if any(map(sums_up, fleet.models.requests)):
                break
        async with asyncio.timeout(20):
            while await known() is None:
                await asyncio.sleep(0.01)
        await fleet.stack.restart()
        await fleet.stack.online(1, ONLINE_SECONDS)
        assert "They keep tamarillos." in (await ask("And now?")).said

        on_disk = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert identity.encode() in on_disk
        assert b"tamarillo" not in on_disk

        await fleet.stack.service.registry.journal.maintenance.purge(identity, conversation_id)
        assert await known() is None
        assert "tamarillos" not in (await ask("And then?")).said
