"""Draws README's pictures of the console: ``python -m tests.console_pictures --place /srv/aiwm``; half a minute.

A supervisor with twelve agents and a local platform run on this machine meanwhile, and a headless Chromium looks.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, async_playwright, expect

from supervisor.core.states import AgentState
from supervisor.telemetry import logs
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, agent_id, stack

IMAGES = Path(__file__).parents[1] / "docs" / "images"
HANDLERS: Final = {
    "answers": '''"""Answers from what the shop knows."""
from supervisor.handler import Reply, Usage


async def on_message(message, ctx):
    return Reply("We are open until six.", usage=Usage(820 + 40 * len(message.content), 130, "small-model"))
''',
    "weather": '''"""Says what the weather will be."""


async def on_message(message, ctx):
    raise RuntimeError("the weather service refused the key")
''',
    "booking": '''"""Books a room, which takes its time."""
import asyncio


async def on_message(message, ctx):
    await asyncio.sleep(600)
''',
}
NAMES: Final = (
    *("Ada", "Billing", "Concierge", "Deliveries", "Events", "Front desk"),
    *("Guide", "Helpline", "Invoices", "Jobs", "Kitchen", "Lounge"),
)
ADA, BILLING, EVENTS, HELPLINE, JOBS = (agent_id(number) for number in (1, 2, 5, 8, 10))
_OTHERS: Final = {BILLING: "weather", EVENTS: "booking", HELPLINE: "wether"}
_QUESTIONS: Final = ("When do you close?", "And on Sunday?", "Do you deliver?", "How much is it?")


@asynccontextmanager
async def fleet_of(place: Path) -> AsyncIterator[Stack]:
    """Twelve agents that were talked to: one is failing, one faulted, one paused, one has a message in its hands."""
    values: dict[str, Any] = {"deployment_name": "production", "drain_seconds": 0.2, "max_attempts": 1}
    prices = {"small-model": {"input": 0.5, "output": 1.5}}
    async with stack(place, agents_dir=handlers_folder(place, HANDLERS), prices=prices, **values) as fleet:
        for number, name in enumerate(NAMES, start=1):
            identity = agent_id(number)
            labels = {"team": "support"} if number % 3 == 1 else {}
            handler = _OTHERS.get(identity, "answers")
            settings = {"budget_tokens": 200_000} if identity == ADA else {}
            await fleet.add(number, handler, name=name, labels=labels, settings=settings, paused=identity == JOBS)
        await fleet.online(len(NAMES) - 2)
        await fleet.state(HELPLINE, AgentState.FAULTED)
        for question in _QUESTIONS:
            await fleet.ask(ADA, question)
        for identity in (BILLING, BILLING, *map(agent_id, (3, 4, 6, 7, 9, 11))):
            await fleet.ask(identity, _QUESTIONS[0])
        user = fleet.users[0]
        await user.say(await user.open(EVENTS), "A room for eight, on Friday?")
        await fleet.until(lambda: fleet.service.control.status(EVENTS).handling)
        yield fleet


async def picture(browser: Browser, url: str, path: Path, **given: Any) -> None:
    """Look at a page once it knows the fleet."""
    context = await browser.new_context(**given)
    page = await context.new_page()
    await page.goto(url)
    await expect(page.locator("#health")).to_contain_text("ready")
    await page.wait_for_load_state("load")
    await expect(page.get_by_text("Reading …")).to_have_count(0)
    await page.wait_for_timeout(400)
    await page.screenshot(path=path)
    await page.goto("about:blank")
    await context.close()
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


async def draw(place: Path, folder: Path, chromium: str) -> None:
    """Draw all of them."""
    desk, phone = {"width": 1280, "height": 860}, {"width": 390, "height": 524}
    async with fleet_of(place) as fleet, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        url = fleet.service.admin_url
        await picture(browser, url, folder / "console.png", viewport=desk)
        await picture(browser, f"{url}/?agent={ADA}", folder / "console-agent.png", viewport=desk)
        night: dict[str, Any] = {"color_scheme": "dark", "device_scale_factor": 1.64, "has_touch": True}
        await picture(browser, url, folder / "console-phone.png", viewport=phone, **night)
        await browser.close()


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", type=Path, required=True, help="an empty folder for the registry: its name is shown")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where to put them (docs/images)")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("this needs Chromium: apt-get install chromium")
    given.place.mkdir(parents=True, exist_ok=True)
    if any(given.place.iterdir()):
        parser.error(f"{given.place} is not empty")
    # The troubles are made on purpose: nobody needs to read of them.
    logs.configure("ERROR", "console", io.StringIO())
    asyncio.run(draw(given.place, given.folder, chromium))


if __name__ == "__main__":
    main()
