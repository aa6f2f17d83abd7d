"""The assistant's pieces by themselves: memory, names of tools, gates, and what it says where its extra is missing."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.core.errors import HandlerError
from supervisor.handler import HistoryItem, Message, Sender
from supervisor.handlers import HandlerLoader
from supervisor.protocol.inbound import collected
from tests.support.paths import ROOT

AGENTS = ROOT / "agents"


@pytest.fixture(scope="module")
def part() -> Any:
    """The assistant's modules by name, as the supervisor loads them."""
    HandlerLoader(AGENTS).load("assistant")

    def module(name: str) -> Any:
        return sys.modules[f"supervisor_agents.assistant.{name}"]

    # Kept: another test may mount the folder anew.
    return {
        name: module(name)
        for name in ("memory", "tokens", "tools", "servers", "gates", "trouble", "settings", "endpoints", "shared")
    }


def message(text: str) -> Message:
    return Message(conversation_id="c" * 24, role="user", content=text)


def said(*texts: str) -> list[HistoryItem]:
    """A conversation in turns, the person's first."""
    return [HistoryItem("assistant" if n % 2 else "user", text, float(n)) for n, text in enumerate(texts)]


def texts(messages: Any) -> list[str]:
    """What messages say, or those of a past."""
    return [str(one.parts[0].content) for one in getattr(messages, "messages", messages)]


def test_memory_ends_before_the_message_that_is_answered(part: Any) -> None:
    earlier = part["memory"].earlier
    items = said("one", "1", "two", "2", "three")
    assert texts(earlier(items, message("three"), 1000)) == ["one", "1", "two", "2"]
    # A message that the journal has not yet is no reason to forget the others.
    assert texts(earlier(items[:4], message("new"), 1000)) == ["one", "1", "two", "2"]


def test_what_is_answered_together_stands_at_the_end_with_who_said_it(part: Any) -> None:
    earlier = part["memory"].earlier
    ana = replace(message("yes"), sender=Sender(name="Ana"))
    items = [*said("one", "1"), *(HistoryItem("user", text, 9.0) for text in ("yes", "no", "yes"))]
    together = collected(message("yes"), [ana, message("no")])
    assert texts(earlier(items, together, 1000)) == ["one", "1", 'yes\n\n[Sent by {"name": "Ana"}]', "no"]
    assert texts(earlier(items, together, 0)) == ['yes\n\n[Sent by {"name": "Ana"}]', "no"], "whatever their size"


def test_a_model_hears_who_spoke_and_no_apology_of_ours(part: Any) -> None:
    apology = part["trouble"].WORDS[part["trouble"].Kind.BUSY]
    items = [HistoryItem("user", "hi", 1.0, "Bo"), HistoryItem("assistant", apology, 2.0), *said("x", apology)[:1]]
    assert texts(part["memory"].earlier(items, message("y"), 1000)) == ['hi\n\n[Sent by {"name": "Bo"}]', "x"]


def test_memory_is_cut_at_whole_messages_and_begins_with_the_person(part: Any) -> None:
    earlier, tokens = part["memory"].earlier, part["tokens"].plain_message_tokens
    items = said("a" * 40, "b" * 40, "c" * 40, "d" * 40, "now")
    room = tokens("now") + 3 * tokens("d" * 40)
    # Three fit, and the oldest of these is the model's.
    assert texts(earlier(items, message("now"), room)) == ["c" * 40, "d" * 40]
    assert texts(earlier(items, message("now"), 0)) == []


def test_half_of_the_history_is_left_out_and_nothing_of_the_run(part: Any) -> None:
    memory = part["memory"]
    items = said("one", "1", "two", "2", "three", "3", "now")
    pasts = memory.earlier(items, message("now"), 1000), memory.earlier(said("now", "x"), message("y"), 1000)
    messages = [one for past in pasts for one in past.messages]
    left_out = memory.half(messages)
    assert texts(messages[left_out:]) == ["three", "3", "now", "x"]
    assert memory.half(messages[6:]) == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [("mcp__We__weather", "mcp__We__weather"), ("mcp__My server__get", None), ("mcp__We__" + "x" * 80, None)],
)
def test_names_of_tools_are_such_that_every_provider_takes_them(part: Any, name: str, shown: str | None) -> None:
    safe = part["tools"].safe_name(name)
    assert safe == (shown or safe)
    assert len(safe) <= 64
    assert safe.replace("_", "").replace("-", "").isalnum()
    assert part["tools"].safe_name(name + "!") != safe


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:3001/mcp", True),
        ("http://LOCALHOST./mcp", True),
        ("http://127.8.8.8/mcp", True),
        ("http://[::1]:1/mcp", True),
        ("http://0.0.0.0/mcp", True),
        ("https://tools.example.com/mcp", False),
        ("http://10.0.0.5/mcp", False),
    ],
)
def test_local_addresses_are_known(part: Any, url: str, local: bool) -> None:
    assert part["servers"].is_local(url) is local


async def test_slots_are_given_in_order_and_come_back_from_those_who_give_up(part: Any) -> None:
    slots = part["gates"].Slots()
    order: list[str] = []
    go = asyncio.Event()

    async def use(name: str) -> None:
        async with slots.one(1):
            order.append(name)
            await go.wait()

    first, second, third = (asyncio.create_task(use(name)) for name in "abc")
    await asyncio.sleep(0)
    second.cancel()
    go.set()
    await asyncio.gather(first, third)
    assert order == ["a", "c"]
    assert slots.running == 0
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_a_slot_that_is_given_in_the_moment_of_a_cancellation_is_not_lost(part: Any) -> None:
    slots = part["gates"].Slots()
    async with slots.one(1):
        waiting = asyncio.create_task(_hold(slots))
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert slots.running == 0


async def _hold(slots: Any) -> None:
    async with slots.one(1):
        await asyncio.Event().wait()


def test_refusals_without_a_time_close_the_gate_for_longer_each_time(part: Any) -> None:
    gate = part["gates"].KeyGate()
    assert gate.closed_seconds == 0
    first = gate.close(None)
    assert 0 < first <= 1
    # Those that were under way at that moment are no new refusal, a longer time is taken over.
    assert gate.close(None) <= first
    assert gate.close(100) > 90
    assert gate.close(5) > 90
    assert gate.close(10**9) <= 3600


async def test_a_client_that_is_not_installed_is_asked_for_by_name_once_it_is_needed(
    part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    shared = part["shared"].Shared.take()

    def endpoint(provider: str) -> Any:
        return part["endpoints"].Endpoint(provider, "m", "https://models.example.com", lambda: "key")

    try:
        await shared.prepare([endpoint("openai")])
        with pytest.raises(part["settings"].MisconfiguredError, match=r"anthropic .* 'aiwm-supervisor\[llm\]'"):
            await shared.prepare([endpoint("openai"), endpoint("anthropic")])
    finally:
        await shared.give_back()


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pydantic_ai", "httpx2"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("supervisor_agents")]:
        monkeypatch.delitem(sys.modules, name)
    loader = HandlerLoader(AGENTS)
    with pytest.raises(HandlerError, match=r"pip install 'aiwm-supervisor\[llm\]'"):
        loader.load("assistant")
    # Everything else runs.
    loader.load("echo")
