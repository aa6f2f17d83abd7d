"""Takes README's pictures of the console: ``python -m tests.console_pictures``; look at them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, async_playwright, expect

from tests.support.browser import CHROMIUM
from tests.support.observing import handlers_folder
from tests.support.paths import ROOT
from tests.support.stack import Stack, agent_id, stack

_IMAGES: Final = ROOT / "docs" / "images"
_NAMES: Final = (
    *("Ada", "Billing", "Concierge", "Deliveries", "Events", "Front desk"),
    *("Guide", "Helpline", "Invoices", "Journal", "Kitchen", "Library"),
)
_LOST, _HANGS, _FAULTED, _PAUSED = 2, 5, 8, 11
_ANSWERS: Final = """from supervisor.handler import Reply, Usage

async def on_message(message, ctx):
    return Reply("With pleasure.", usage=Usage(900, 140, "small-model"))
"""
_BOOKING: Final = """import asyncio
from supervisor.handler import Reply, Usage


async def on_message(message, ctx):
    if "room" in message.content:
        await asyncio.sleep(3600)
    return Reply("It is booked.", usage=Usage(1400, 90, "small-model"))
"""
_HANDLERS: Final = {
    "answers": _ANSWERS,
    "weather": "async def on_message(message, ctx):\n    raise RuntimeError('the weather service refused the key')\n",
    "booking": _BOOKING,
}


async def _fill(fleet: Stack) -> None:
    """A dozen agents, most of them well."""
    handlers = {_LOST: "weather", _HANGS: "booking", _FAULTED: "wether"}
    for number, name in enumerate(_NAMES, start=1):
        one = {"max_attempts": 1} if number == _LOST else {"language": "en"}
        labels = {"team": "guests" if number % 2 else "office"}
        handler = handlers.get(number, "answers")
        await fleet.add(number, handler, name=name, settings=one, labels=labels, paused=number == _PAUSED)
    await fleet.online(len(_NAMES) - 2)
    for number in (1, 3, 4, 6, _LOST, _LOST, 7, _HANGS, _HANGS, _HANGS):
        await fleet.ask(agent_id(number), "Good evening, is there a table for two?")
    user = fleet.users[0]
    await user.say(await user.open(agent_id(_HANGS)), "A room for tonight, please.")
    await fleet.until(lambda: fleet.service.control.status(agent_id(_HANGS)).handling)


async def _take(browser: Browser, url: str, name: str, path: str, **look: Any) -> None:
    page = await browser.new_page(**look)
    await page.goto(url + path)
    await expect(page.locator("#health")).to_contain_text("ready")
    await page.get_by_text("asyncio.sleep").or_(page.locator("#agents tr")).first.wait_for()
    await page.screenshot(path=_IMAGES / f"{name}.png")
    await page.close()


async def _main(folder: Path) -> None:
    agents_dir = handlers_folder(folder, _HANDLERS)
    given: dict[str, Any] = {
        "deployment_name": "production",
        "prices": {"small-model": {"input": 3, "output": 15}},
        "drain_seconds": 0.2,
    }
    async with stack(folder, agents_dir=agents_dir, **given) as fleet, async_playwright() as playwright:
        await _fill(fleet)
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        url, wide = fleet.service.admin_url, {"width": 1280, "height": 860}
        await _take(browser, url, "console", "/", viewport=wide)
        await _take(browser, url, "console-agent", f"/?agent={agent_id(_HANGS)}", viewport=wide)
        phone = {"width": 640, "height": 860}
        await _take(browser, url, "console-phone", "/", viewport=phone, color_scheme="dark")
        await browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(_main(Path(made)))
