"""What a newcomer sees: the demo's chat page, talking to real agents of a real supervisor."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.command import Command

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
expect.set_options(timeout=20_000)


@pytest.fixture
async def chat_url(tmp_path: Path) -> AsyncIterator[str]:
    """The chat page of a running demo."""
    command = Command(tmp_path)
    command.start("demo", "--agents", "2", "--for", "120")
    found = await asyncio.to_thread(command.wait_for_log, "demo", r"Chat with an agent\s+(http://\S+)")
    yield found[1]
    await asyncio.to_thread(command.close)


async def say(page: Page, text: str) -> None:
    """Write a message and send it with Enter."""
    await page.get_by_test_id("composer").fill(text)
    await page.get_by_test_id("composer").press("Enter")


async def test_a_person_talks_to_the_tour_guide(chat_url: str, page: Page) -> None:
    await page.goto(chat_url)
    await page.get_by_text("Tour guide").first.click()
    await say(page, "6 * 7")
    await expect(page.get_by_test_id("thinking")).to_contain_text("This is a sum")
    await expect(page.get_by_test_id("tool-call")).to_contain_text("calculator")
    await expect(page.get_by_test_id("tool-result")).to_contain_text('"value": 42')
    await expect(page.get_by_text("6 * 7 = 42")).to_be_visible()
    await expect(page.get_by_test_id("usage")).to_contain_text("30 tokens")

    await say(page, "slow 2")
    await expect(page.get_by_test_id("typing")).to_be_visible()
    await expect(page.get_by_text("That took 2 seconds.")).to_be_visible()
    await expect(page.get_by_test_id("typing")).to_be_hidden()

    await say(page, "attach")
    await expect(page.get_by_role("link", name=re.compile("report.pdf"))).to_be_visible()

    await say(page, "error")
    await expect(page.get_by_test_id("message").last).to_contain_text("what an error looks like")

    await say(page, "fail")
    await expect(page.get_by_test_id("message").last).to_contain_text("Sorry")
    # Answers and apologies are what the platform's own widget draws; only the signs of work are not.
    hidden = await page.get_by_test_id("unseen").all_inner_texts()
    assert hidden == [f"Not shown on the platform (type {kind})" for kind in ("thinking", "tool_call", "tool_result")]
    await expect(page.get_by_test_id("locked")).to_be_hidden()


async def test_a_person_talks_to_echo(chat_url: str, page: Page) -> None:
    await page.goto(chat_url)
    await page.get_by_text("Echo", exact=True).first.click()
    await say(page, "<b>hello</b>")
    await expect(page.get_by_text("Echo: <b>hello</b>")).to_be_visible()


async def test_a_message_written_before_the_conversation_is_open_is_sent_once_it_is(chat_url: str, page: Page) -> None:
    written = asyncio.Event()

    async def held_back(route: Route) -> None:
        await written.wait()
        await route.continue_()

    await page.route("**/conversation", held_back)
    await page.goto(chat_url)
    await page.get_by_text("Echo", exact=True).first.click()
    await say(page, "hasty")
    await expect(page.get_by_test_id("composer")).to_have_value("hasty")
    written.set()
    await expect(page.get_by_text("Echo: hasty")).to_be_visible()
    await expect(page.get_by_test_id("composer")).to_have_value("")
