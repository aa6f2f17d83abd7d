"""Many tabs of the console beside each other: a browser has six connections to a host, and a stream keeps one."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.fleet_page import FAILING, console

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
expect.set_options(timeout=20_000)
TABS = 8


async def hide(tab: Page, hidden: bool) -> None:
    """What a browser tells a page when somebody turns to another tab; a headless one shows all of them at once."""
    await tab.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


async def test_more_tabs_than_a_browser_has_connections_and_each_goes_on_when_it_is_looked_at(
    tmp_path: Path, browser: Browser
) -> None:
    context = await browser.new_context()
    async with console(tmp_path, await context.new_page()) as made:
        tabs = []
        for number in range(TABS):
            tab = await context.new_page()
            await tab.goto(made.url + (f"/?agent={FAILING}" if number % 2 else "/"))
            await expect(tab.locator("#health")).to_contain_text("ready")
            await hide(tab, True)
            tabs.append(tab)
        await made.fleet.add(7, name="Late")
        await hide(tabs[0], False)
        await expect(tabs[0].get_by_role("link", name="Late", exact=True)).to_be_visible()
        await hide(tabs[1], False)
        await expect(tabs[1].get_by_role("region", name="States", exact=True).locator("li").first).to_be_visible()
        for tab in tabs:
            await tab.close()
