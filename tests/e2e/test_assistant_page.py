"""What a person sees of the assistant in the chat page: thinking, a tool call with its result, usage."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.assistants import assistants
from tests.support.command import Command, until
from tests.support.fake_mcp import fake_mcp
from tests.support.fake_models import Answer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
expect.set_options(timeout=20_000)


async def test_a_person_sees_thinking_a_tool_call_with_its_result_and_usage(tmp_path: Path, page: Page) -> None:
    async with assistants(tmp_path) as fleet, fake_mcp() as tools:
        fleet.models.say(
            Answer(
                thinking="I need the weather.", tool_calls=(("mcp__We__weather", {"city": "Ulm"}),), usage=(50, 10, 0)
            ),
            Answer("Sunny, take a hat.", usage=(70, 20, 50)),
        )
        await fleet.add(servers={"We": tools})
        await page.goto(fleet.stack.sandbox.base_url)
        await page.get_by_text("Agent 0001", exact=True).first.click()
        await page.get_by_test_id("composer").fill("How is the weather in Ulm?")
        await page.get_by_test_id("composer").press("Enter")
        await expect(page.get_by_test_id("thinking")).to_contain_text("I need the weather.")
        await expect(page.get_by_test_id("tool-call")).to_contain_text("mcp__We__weather")
        await expect(page.get_by_test_id("tool-call")).to_contain_text("Ulm")
        await expect(page.get_by_test_id("tool-result")).to_contain_text("It is sunny in Ulm.")
        await expect(page.get_by_text("Sunny, take a hat.")).to_be_visible()
        await expect(page.get_by_test_id("usage")).to_contain_text("150 tokens")
        # Before its platform goes away, which it would call an error.
        await page.close()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path)
    yield made
    made.close()


async def test_the_demos_assistant_answers_through_the_platforms_proxy(command: Command, page: Page) -> None:
    command.start("demo", "--profile", "v2", "--port", "0", "--for", "90")
    started = command.log("demo")
    address = await asyncio.to_thread(
        until, lambda: re.search(r"Chat with an agent +(\S+)", started.read_text()), "the chat page's address"
    )
    await page.goto(address[1])
    await page.get_by_text("Assistant", exact=True).first.click()
    await page.get_by_test_id("composer").fill("What do you hear?")
    await page.get_by_test_id("composer").press("Enter")
    await expect(page.get_by_text("You said: What do you hear?").first).to_be_visible()
    await page.close()
