"""The console of several supervisors on one registry, in a real browser: any of them shows the whole fleet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.support.together import TOKEN, together

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
expect.set_options(timeout=20_000)


async def test_any_replica_shows_the_whole_fleet_and_gives_way(tmp_path: Path, browser: Browser) -> None:
    # A page of its own: a browser tells of the answers 401 and 503 as errors.
    page = await (await browser.new_context(viewport={"width": 390, "height": 844})).new_page()
    async with together(tmp_path) as fleet:
        await fleet.add(1, 1, name="Ada")
        bob = await fleet.add(2, 2, name="Bob")
        for member in fleet.members.values():
            await member.stack.online()
        await page.goto(fleet.url(1))
        await page.get_by_label("Admin token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#agents tr")).to_have_count(2)
        replicas = page.get_by_role("region", name="Replicas").locator("tbody tr")
        await expect(replicas).to_have_count(2)
        await expect(replicas.first).to_contain_text("1, which you look at")
        await expect(replicas.nth(1)).to_contain_text("1 of 1")
        found = await Axe().run(page, options={"resultTypes": ["violations"]})
        assert found.response["violations"] == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        await replicas.nth(1).get_by_role("button", name="Drain").click()
        await page.get_by_role("dialog", name="Drain replica 2?").get_by_role("button", name="Drain").click()
        await expect(page.locator("#toasts")).to_contain_text("Replica 2 gives its agents to the others")
        assert fleet.roster.drained == [2]

        await fleet.silence(2)
        await expect(replicas.nth(1)).to_contain_text("silent")
        await expect(replicas.nth(1).get_by_role("button")).to_have_count(0)
        await page.get_by_role("button", name=re.compile("unknown 1")).click()
        await expect(page.locator("#agents tr")).to_have_count(1)
        await page.goto(f"{fleet.url(1)}/?agent={bob}")
        await expect(page.locator(".title + .state")).to_contain_text("unknown")
        await expect(page.locator(".facts")).to_contain_text("Last heard of")
        await page.goto("about:blank")
    await page.context.close()
