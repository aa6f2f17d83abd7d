"""The console against a live supervisor: agents in every plight, and a browser that must meet no error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page, expect

from supervisor.core.states import AgentState
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, agent_id, stack

FAILS = "async def on_message(message, ctx):\n    raise RuntimeError('no key for the weather service')\n"
HANGS = "import asyncio\nasync def on_message(message, ctx):\n    await asyncio.sleep(3600)\n"
MODEL = '''"""Says what it cost."""
from supervisor.handler import Reply, Usage

SETTINGS = {
    "city": {"type": "string", "description": "Whose weather people hear."},
    "units": {"enum": ["metric", "imperial"]},
    "days": {"type": "integer"},
    "loud": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "api_key": {"type": "string", "format": "password"},
}


async def on_message(message, ctx):
    return Reply("well, well", usage=Usage(1000, 120, "small-model"))
'''
FAILING, HANGING, MODELLED, FAULTED, PAUSED, PLAIN = (agent_id(number) for number in range(1, 7))


@dataclass
class Console:
    """What a test of the console plays with."""

    fleet: Stack
    page: Page

    @property
    def url(self) -> str:
        """Where the console is."""
        return self.fleet.service.admin_url

    async def open(self, path: str = "/") -> None:
        """Go to a page of the console; returns once it knows the fleet."""
        await self.page.goto(self.url + path)
        await expect(self.page.locator("#health")).to_contain_text("ready")

    def part(self, name: str) -> Locator:
        """A part of the page under its title."""
        return self.page.get_by_role("region", name=name, exact=True)

    def row(self, name: str) -> Locator:
        """The row of an agent in the table."""
        return self.page.locator("#agents tr", has=self.page.get_by_role("link", name=name, exact=True))

    async def violations(self, *, contrast_only: bool = False) -> list[str]:
        """What axe finds on the page."""
        only = {"runOnly": ["color-contrast"]} if contrast_only else {}
        found = await Axe().run(self.page, options={"resultTypes": ["violations"], **only})
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found.response["violations"]
            for node in one["nodes"]
        ]


@asynccontextmanager
async def console(folder: Path, page: Page, **given: Any) -> AsyncIterator[Console]:
    """A supervisor with six agents: failing, hanging, one that uses a model, faulted, paused, and a plain one."""
    agents_dir = handlers_folder(folder, {"fails": FAILS, "hangs": HANGS, "model": MODEL})
    values: dict[str, Any] = {
        "deployment_name": "production",
        "drain_seconds": 0.2,
        "prices": {"small-model": {"input": 3, "output": 15}},
        "currency": "CHF",
    } | given
    async with stack(folder, agents_dir=agents_dir, **values) as fleet:
        await fleet.add(1, "fails", name="Failing", settings={"max_attempts": 1}, labels={"team": "support"})
        await fleet.add(2, "hangs", name="Hanging")
        await fleet.add(3, "model", name="Modelled", settings={"city": "Bern", "api_key": "k3y"})
        await fleet.add(4, "nope", name="Faulted")
        await fleet.add(5, name="Paused", paused=True)
        await fleet.add(6, name="Plain", labels={"team": "support"})
        await fleet.online(4)
        await fleet.state(FAULTED, AgentState.FAULTED)
        for identity in (FAILING, MODELLED):
            await fleet.ask(identity, "What is the weather?")
        user = fleet.users[0]
        await user.say(await user.open(HANGING), "Anybody there?")
        await fleet.until(lambda: fleet.service.control.status(HANGING).handling)
        try:
            yield Console(fleet, page)
        finally:
            # What follows the supervisor would find it gone, and say so.
            await page.goto("about:blank")
