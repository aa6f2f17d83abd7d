"""Every action of the console, in a real browser against a live supervisor."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, expect
from pydantic import SecretStr

from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState, MessageState
from supervisor.handler import Usage
from supervisor.protocol.answers import Instruction
from tests.support.fleet_page import (
    FAILING,
    FAILS,
    FAULTED,
    HANGING,
    MODELLED,
    PAUSED,
    PLAIN,
    Console,
    console,
)
from tests.support.journaling import add
from tests.support.stack import SECRET, SECRET_FILE, agent_id, stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
expect.set_options(timeout=20_000)
FULL, READ = "t0ken-for-all", "t0ken-to-read"
PAGES = (
    "/",
    f"/?agent={FAILING}",
    f"/?agent={HANGING}",
    "/?view=messages",
    "/?view=usage",
    "/?view=history",
    "/?view=doctor",
    "/?view=add",
)


async def sign_in(page: Page, url: str, token: str) -> None:
    await page.goto(url)
    await page.get_by_label("Admin token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#health")).to_contain_text("ready")


async def test_the_fleet_is_a_live_table(tmp_path: Path, page: Page) -> None:
    async with console(tmp_path, page) as made:
        await filter_and_sort(made)
        await select_beside_updates(made)
        await use_the_keyboard(made)


async def test_agents_are_added_changed_and_removed(tmp_path: Path, browser: Browser) -> None:
    # A page of its own: a browser tells of the answer 400 as an error.
    async with console(tmp_path, await browser.new_page()) as made:
        await act_on_many(made)
        await add_and_edit(made)
        await go_back(made)
        await undo_removals(made)


async def test_what_is_wrong_is_found_and_mended(tmp_path: Path, page: Page) -> None:
    async with console(tmp_path, page) as made:
        await see_usage_and_doctor(made)
        await look_at_agents(made)
        await mend_dead_letters(made)
        await discard_all_that_match(made)


async def filter_and_sort(made: Console) -> None:
    """Filters, search and order are in the address, and survive a reload."""
    page = made.page
    await made.open()
    rows = page.locator("#agents tr")
    await expect(rows).to_have_count(6)
    assert [text.split()[1] for text in await page.locator("#agents td.state").all_inner_texts()] == [
        *("faulted", "failing", "online", "online", "online", "paused")
    ]
    await expect(made.row("Failing")).to_contain_text("no key for the weather service")
    await expect(page).to_have_title("(2) production")
    assert await page.get_attribute("#icon", "href") == "/favicon-2.svg"
    await expect(page.locator("footer")).to_contain_text("supervisor.db")
    # A filter and a search are in the address, and survive a reload.
    await page.get_by_role("button", name=re.compile("online")).click()
    await page.get_by_label("Find agents").fill("plain")
    await expect(rows).to_have_count(1)
    assert page.url.endswith("/?q=plain&state=online")
    await page.reload()
    await expect(rows).to_have_count(1)
    await page.goto(made.url + "/?label=team%3Dsupport&sort=agent&down")
    await expect(rows).to_have_count(2)
    assert (await page.locator("#agents td.agent a").all_inner_texts()) == ["Plain", "Failing"]
    await page.get_by_role("button", name="Agent", exact=True).click()
    await expect(page.locator("th[aria-sort=ascending]")).to_have_text("Agent")
    assert (await page.locator("#agents td.agent a").all_inner_texts()) == ["Failing", "Plain"]


async def select_beside_updates(made: Console) -> None:
    """What is selected, and what somebody marked, survives what changes."""
    page = made.page
    await made.open()
    await page.get_by_label("Select Plain").check()
    await made.row("Plain").evaluate("row => getSelection().selectAllChildren(row.querySelector('small'))")
    await page.evaluate("window.kept = document.querySelector('#agents tr:nth-child(5)')")
    hostile = "<img src=x onerror=alert(1)>"
    await made.fleet.service.registry.update_agent(FAULTED, handler="echo", name=hostile)
    await expect(made.row(hostile)).to_contain_text("online")
    await expect(page.get_by_label("Select Plain")).to_be_checked()
    assert await page.evaluate("getSelection().toString()") == PLAIN
    assert await page.evaluate("kept.isConnected")
    await made.fleet.service.control.remove(FAULTED)
    await expect(page.locator("#agents tr")).to_have_count(5)


async def act_on_many(made: Console) -> None:
    """Many are paused, which is undone, and removed, once confirmed."""
    page = made.page
    await made.open("/?label=team%3Dsupport")
    await page.get_by_label("Select all agents that are shown").check()
    bar = page.get_by_role("group", name="Do to all that are selected")
    await expect(bar).to_contain_text("All 2 agents that match")
    await bar.get_by_role("button", name="Pause").click()
    await page.get_by_role("dialog", name="Pause 2 agents?").get_by_role("button", name="Pause").click()
    await expect(made.row("Plain")).to_contain_text("paused")
    await expect(made.row("Failing")).to_contain_text("paused")
    await page.get_by_role("button", name="Undo").click()
    await expect(made.row("Plain")).to_contain_text("online")
    await expect(bar).to_be_hidden()
    await page.get_by_label("Select Plain").check()
    await bar.get_by_role("button", name="Reload").click()
    await expect(page.locator("#toasts")).to_contain_text("1 agent reloading")
    # One that comes to match while all are selected is among them.
    await page.get_by_label("Select all agents that are shown").check()
    await made.fleet.service.registry.update_agent(PAUSED, labels={"team": "support"})
    await expect(bar).to_contain_text("All 3 agents that match")
    await bar.get_by_role("button", name="Pause").click()
    await page.get_by_role("dialog", name="Pause 3 agents?").get_by_role("button", name="Pause").click()
    await expect(made.row("Plain")).to_contain_text("paused")
    await page.locator("#toasts").get_by_role("button", name="Undo").last.click()
    await expect(made.row("Plain")).to_contain_text("online")
    # What was paused before is not resumed by that.
    assert (await made.fleet.service.registry.agent(PAUSED)).paused
    await page.get_by_label("Select all agents that are shown").check()
    await page.get_by_label("Select Paused").uncheck()
    await expect(bar).to_contain_text("2 agents selected")
    await made.fleet.service.registry.update_agent(PAUSED, labels={})
    await bar.get_by_role("button", name="Clear").click()
    await page.get_by_label("Select Plain").check()
    for answer, left in (("Keep", 2), ("Remove", 1)):
        await bar.get_by_role("button", name="Remove").click()
        await page.get_by_role("dialog").get_by_role("button", name=answer).click()
        await expect(page.locator("#agents tr")).to_have_count(left)
    assert PLAIN not in {one.id for one in await made.fleet.service.registry.agents()}


async def look_at_agents(made: Console) -> None:
    """An agent's page tells all of it, and cancels what hangs."""
    page = made.page
    await made.open(f"/?agent={HANGING}")
    await expect(made.part("In its hands")).to_contain_text("asyncio.sleep(3600)")
    await expect(made.part("States")).to_contain_text("online")
    await made.part("In its hands").get_by_role("button", name="Cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(made.part("In its hands")).to_contain_text("Nothing")
    await page.goto(f"{made.url}/?agent={MODELLED}")
    line = {
        "timestamp": "2027-01-15T08:00:00Z",
        "level": "warning",
        "event": "handler_timeout",
        "stack": "f.py:7\n  f()",
    }
    made.fleet.service.shared.events.publish("log", MODELLED, line)
    stack = made.part("Log").locator("li", has_text="handler_timeout")
    await stack.get_by_text("stack", exact=True).click()
    await expect(stack.locator("pre")).to_have_text("f.py:7\n  f()")
    await expect(made.part("The last hour")).to_contain_text("1,120 in the hour")
    await expect(page.get_by_role("img", name=re.compile("^Answers.*1 in the hour"))).to_be_visible()
    await expect(made.part("Settings")).to_contain_text('"city": "Bern"')
    await expect(made.part("Settings")).to_contain_text('"api_key": "[redacted]"')
    messages = made.part("Messages")
    await expect(messages).not_to_contain_text("weather")
    await messages.get_by_role("button", name="Show message").click()
    await expect(messages).to_contain_text("What is the weather?")
    await expect(messages).to_contain_text("well, well")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator(".title + .state")).to_contain_text("paused")
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator(".title + .state")).to_contain_text("online")
    await page.get_by_role("button", name="Examine").click()
    await expect(page.get_by_text("the running supervisor has it online")).to_be_visible()
    await page.get_by_role("button", name="Reload").click()
    await expect(page.locator("#toasts")).to_contain_text("1 agent reloading")
    await page.get_by_role("button", name="Try again now").click()
    await expect(page.locator("#toasts")).to_contain_text("1 agent resumed")
    await cancel_what_hangs(made)


async def cancel_what_hangs(made: Console) -> None:
    """Among all messages it is seen where one hangs, and it is cancelled there."""
    page, user = made.page, made.fleet.users[0]
    await user.say(await user.open(HANGING), "Still nobody?")
    hands = made.fleet.service.control.status
    await made.fleet.until(lambda: any("sleep" in one.stack for one in hands(HANGING).handling))
    await made.open("/?view=messages")
    await page.get_by_role("button", name="Waiting and running").click()
    await page.get_by_role("button", name="Show message").click()
    await expect(page.locator(".details")).to_contain_text("asyncio.sleep(3600)")
    await page.get_by_label(re.compile("Select message")).check()
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.get_by_text("Nothing waits and nothing runs.")).to_be_visible()


async def mend_dead_letters(made: Console) -> None:
    """Dead letters are read, discarded and replayed."""
    page = made.page
    await made.fleet.ask(FAILING, "And tomorrow?")
    await made.open("/?view=messages")
    letters = page.locator("tbody tr:not(.below)")
    await expect(letters).to_have_count(2)
    await page.get_by_role("button", name="Show message").first.click()
    await expect(page.locator(".details").first).to_contain_text("And tomorrow?")
    await expect(page.locator(".details").first).to_contain_text("Traceback")
    await page.get_by_label(re.compile("Select message")).first.check()
    await page.get_by_role("button", name="Discard").click()
    await page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    await expect(letters).to_have_count(1)
    handlers = made.fleet.settings.agents_dir
    assert handlers is not None
    (handlers / "fails.py").write_text(
        FAILS.replace("raise RuntimeError('no key for the weather service')", "return 'sun'")
    )
    await made.fleet.service.control.reload(FAILING)
    await made.fleet.until(lambda: not made.fleet.service.control.status(FAILING).failing)
    await page.get_by_label("Select all messages").check()
    await page.get_by_role("button", name="Replay").click()
    await expect(page.get_by_text("No dead letters")).to_be_visible()
    journal = made.fleet.service.registry.journal
    assert len(await journal.messages(agent_id=FAILING, states=[MessageState.CANCELLED])) == 1
    await page.get_by_role("button", name="All", exact=True).click()
    await expect(page.locator(".message-done")).to_have_count(2)


async def discard_all_that_match(made: Console) -> None:
    """More than are shown, once their count is confirmed."""
    page = made.page
    journal = made.fleet.service.registry.journal
    for number in range(120):
        row = await add(journal, f"many {number}", agent=PAUSED, claim=True)
        await journal.settle(row, MessageState.DEAD, error="no key")
    await made.open("/?view=messages")
    await expect(page.locator("tbody tr:not(.below)")).to_have_count(100)
    await page.get_by_label("Select all messages").check()
    await page.get_by_role("button", name="Select all that match").click()
    await page.get_by_role("button", name="Discard").click()
    await page.get_by_role("dialog", name="Discard 120 messages?").get_by_role("button", name="Discard").click()
    await expect(page.get_by_text("No dead letters")).to_be_visible()
    assert await journal.messages(agent_id=PAUSED, states=[MessageState.DEAD], limit=1) == []


async def add_and_edit(made: Console) -> None:
    """An agent is added and edited in a form of its handler's settings."""
    page = made.page
    identity = agent_id(7)
    made.fleet.sandbox.add_agent(identity, SECRET, name="New")
    await made.open()
    await page.get_by_role("link", name="Add an agent").click()
    await page.get_by_label("Id", exact=True).fill(identity)
    await page.get_by_label("Handler", exact=True).fill("model")
    await page.get_by_label("Secret", exact=True).fill("the secret itself")
    await page.get_by_label("Labels", exact=True).fill("team=sales, region=eu")
    await page.get_by_label("city", exact=True).fill("Basel")
    await page.get_by_role("button", name="Add the agent").click()
    await expect(page.get_by_role("alert").filter(has_text="secret")).to_be_visible()
    await page.get_by_label("Secret", exact=True).fill(f"file:{made.fleet.folder / SECRET_FILE}")
    await page.get_by_text("The supervisor's own settings").click()
    for name, unset in (("timeout_seconds", "as SUPERVISOR_TIMEOUT_SECONDS says"), ("budget_tokens", "not set")):
        assert await page.get_by_label(name, exact=True).get_attribute("placeholder") == unset
    await page.get_by_label("timeout_seconds", exact=True).fill("60")
    await page.get_by_role("button", name="Add the agent").click()
    await expect(page.locator(".title + .state")).to_contain_text("online")
    row = await made.fleet.service.registry.agent(identity)
    assert (row.settings, row.labels) == (
        {"city": "Basel", "timeout_seconds": 60},
        {"team": "sales", "region": "eu"},
    )

    await page.goto(f"{made.url}/?agent={MODELLED}&edit")
    await expect(page.get_by_text("Whose weather people hear.")).to_be_visible()
    await page.get_by_label("city", exact=True).fill("")
    assert await page.get_by_label("api_key", exact=True).get_attribute("type") == "password"
    await page.get_by_label("units", exact=True).select_option("metric")
    await page.get_by_label("days", exact=True).fill("3")
    await page.get_by_label("loud", exact=True).select_option("true")
    await page.get_by_label("tags", exact=True).fill("wind\n\nrain\n")
    await page.get_by_label("Name", exact=True).fill("Renamed")
    await page.get_by_role("button", name="Another setting").click()
    await page.get_by_label("Name of the setting").fill("spare")
    await page.get_by_label("Value of the setting").fill('["a", 1]')
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".title")).to_have_text("Renamed")
    row = await made.fleet.service.registry.agent(MODELLED)
    typed = {"units": "metric", "days": 3, "loud": True, "tags": ["wind", "rain"], "spare": ["a", 1]}
    assert row.settings == {"api_key": "k3y"} | typed, "what was redacted is kept"
    await page.locator("#toasts").get_by_role("button", name="Undo").last.click()
    await expect(page.locator(".title")).to_have_text("Modelled")
    row = await made.fleet.service.registry.agent(MODELLED)
    assert row.settings == {"api_key": "k3y", "city": "Bern"}
    await page.goto(f"{made.url}/?agent={MODELLED}&edit")
    await page.get_by_label("api_key", exact=True).fill("env:AGENT_KEY")
    assert await page.get_by_label("api_key", exact=True).get_attribute("type") == "text", "a reference is no secret"
    await page.get_by_label("loud", exact=True).select_option("false")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".title")).to_have_text("Modelled")
    row = await made.fleet.service.registry.agent(MODELLED)
    assert row.settings == {"api_key": "env:AGENT_KEY", "city": "Bern", "loud": False}


async def go_back(made: Console) -> None:
    """Who changed an agent and what, and the way back to a version."""
    page = made.page
    await made.fleet.service.registry.update_agent(MODELLED, name="Grace", settings={"city": "Rome"})
    await made.open(f"/?agent={MODELLED}")
    told = made.part("History")
    first = told.locator(".events > li").first
    await expect(first).to_contain_text("changed by supervisor")
    await expect(first.locator("del").first).to_have_text("Modelled")
    await expect(first.locator("ins").first).to_have_text("Grace")
    await expect(first).to_contain_text("settings.city")
    await expect(first.get_by_role("button")).to_have_count(0)
    await expect(told).to_contain_text("by api: full access by nothing from 127.0.0.1")
    await expect(told).not_to_contain_text("k3y")
    second = told.locator(".events > li").nth(1)
    await second.get_by_role("button", name=re.compile("Back to version")).click()
    await page.get_by_role("dialog").get_by_role("button", name="Go back").click()
    await expect(page.locator(".title")).to_have_text("Modelled")
    await expect(first).to_contain_text("rolled back to")
    row = await made.fleet.service.registry.agent(MODELLED)
    assert (row.name, row.settings["city"]) == ("Modelled", "Bern")
    await page.locator("#toasts").get_by_role("button", name="Undo").last.click()
    await expect(page.locator(".title")).to_have_text("Grace")
    text = "Be brief. " * 40
    await made.fleet.service.registry.history.note_instructions({MODELLED: Instruction(system_prompt=text)})
    await expect(first).to_contain_text("instruction by platform")
    await first.get_by_text("400 characters").click()
    await expect(first.locator("pre")).to_contain_text("Be brief. Be brief.")


async def undo_removals(made: Console) -> None:
    """What was removed is brought back from the message, from its page and from the history's."""
    page = made.page
    remove = page.get_by_role("button", name="Remove")
    for number in range(60):
        await made.fleet.service.registry.history.note("", "keys rotated", agents=number)
    await made.open(f"/?agent={PAUSED}")
    await remove.click()
    await expect(page.get_by_role("dialog")).to_contain_text("Remove Paused?")
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.locator("#agents tr").first).to_be_visible()
    await expect(made.row("Paused")).to_have_count(0)
    await page.locator("#toasts").get_by_role("button", name="Undo").last.click()
    await expect(made.row("Paused")).to_contain_text("paused")
    for identity in (PAUSED, FAULTED):
        await made.fleet.service.control.remove(identity)
    await made.open("/?agent=nobody")
    await expect(page.get_by_text("No agent of this id is registered.")).to_be_visible()
    await made.open(f"/?agent={FAULTED}")
    await expect(made.part("Settings")).to_be_hidden()
    await expect(page.get_by_text("This agent was removed at")).to_be_visible()
    await page.get_by_role("button", name="Restore it").click()
    await expect(made.part("Settings")).to_be_visible()
    await expect(page.locator(".title + .state")).to_contain_text("faulted")
    await page.get_by_role("link", name="History").click()
    removed = made.part("Removed within a day")
    await expect(removed.locator("tbody tr")).to_have_count(2)
    await removed.get_by_role("row", name=re.compile("Paused")).get_by_role("button", name="Restore").click()
    await expect(removed.locator("tbody tr")).to_have_count(1)
    assert (await made.fleet.service.registry.agent(PAUSED)).name == "Paused"
    told = made.part("Who changed what").locator(".events > li")
    await expect(told.first).to_contain_text("restored Paused")
    count = await told.count()
    await page.get_by_role("button", name="Older ones").click()
    await expect(told.nth(count)).to_be_visible()


async def see_usage_and_doctor(made: Console) -> None:
    """What was used, and what the doctor finds."""
    page = made.page
    registry = made.fleet.service.registry
    made.fleet.service.shared.ledger.record(PLAIN, Usage(7, 3, "unpriced"))
    registry.journal.usage.write()
    async with asyncio.timeout(20):
        while not await registry.usage(PLAIN):
            await asyncio.sleep(0.02)
    await made.open("/?view=usage")
    await page.get_by_label("How far back").select_option("30")
    await expect(page).to_have_url(re.compile("days=30"))
    spent = page.get_by_role("row", name=re.compile(r"Modelled.*small-model.*1,000.*120.*CHF.0\.0048$"))
    await expect(spent).to_be_visible()
    await expect(page.get_by_role("row", name=re.compile("Plain.*unpriced.*no price$"))).to_be_visible()
    # Of all together nobody can say but the least.
    await expect(page.locator(".tile", has_text="cost")).to_contain_text("≥")
    await page.get_by_role("link", name="Doctor").click()
    await page.get_by_role("button", name="Examine").click()
    await expect(page.get_by_text("failing: RuntimeError")).to_be_visible()
    await expect(page.locator(".outcome")).to_contain_text("supervisor doctor would end with 3")
    for check in ("settings", "handlers", "registry", "descriptors"):
        await expect(page.get_by_role("cell", name=check, exact=True).first).to_be_visible()


async def test_somebody_signs_in_once_and_who_may_only_read_is_offered_nothing_else(
    tmp_path: Path, browser: Browser
) -> None:
    tokens = {"admin_token": SecretStr(FULL), "admin_read_token": SecretStr(READ)}
    # Pages of their own: a browser tells of the answer 401 as an error.
    page = await (await browser.new_context()).new_page()
    async with console(tmp_path, page, **tokens) as made:
        await page.goto(made.url)
        await page.get_by_label("Admin token").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#login-error")).to_have_text("That token is wrong")
        await sign_in(page, made.url, FULL)
        await expect(page.locator("#agents tr")).to_have_count(6)
        assert FULL not in await page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        )
        other = await page.context.new_page()
        await other.goto(f"{made.url}/?agent={PLAIN}")
        await expect(other.locator(".title")).to_have_text("Plain")
        # Its stream ends with it.
        async with other.expect_event("requestfailed", lambda request: "/api/v1/events" in request.url):
            await other.get_by_role("button", name="Sign out").click()
        for tab in (other, page):
            await expect(tab.get_by_label("Admin token")).to_be_visible()
            # Nothing of what was shown is left, in no tab.
            await expect(tab.locator("#view > *")).to_have_count(0)
        await page.reload()
        await expect(page.get_by_label("Admin token")).to_be_visible()

        await sign_in(page, made.url, READ)
        await expect(page.locator("#agents tr")).to_have_count(6)
        await page.get_by_label("Select Plain").check()
        await expect(page.get_by_role("group", name="Do to all that are selected")).to_be_hidden()
        await expect(page.get_by_role("link", name="Add an agent")).to_have_count(0)
        await page.goto(f"{made.url}/?agent={FAILING}")
        await expect(page.locator(".title + .state")).to_contain_text("failing")
        await page.get_by_role("button", name="Show message").click()
        await expect(page.get_by_text("sees no text and no traceback")).to_be_visible()
        for button in ("Pause", "Reload", "Remove", "Examine"):
            await expect(page.get_by_role("button", name=button)).to_have_count(0)
        assert "weather" not in await page.inner_text("body")
        await made.fleet.service.control.remove(PLAIN)
        await page.goto(f"{made.url}/?view=history")
        await expect(page.get_by_text("who changed something and when, not what")).to_be_visible()
        await expect(made.part("Removed within a day")).to_contain_text("Plain")
        await expect(page.get_by_role("button", name="Restore")).to_have_count(0)
        assert "no key" not in await page.inner_text("body")
    await page.context.close()


async def test_axe_finds_nothing_and_a_phone_loses_nothing(tmp_path: Path, browser: Browser) -> None:
    looks: list[tuple[Literal["light", "dark"], int]] = [("light", 1280), ("dark", 1280), ("light", 390)]
    async with console(tmp_path, await browser.new_page()) as made:
        await make_history(made)
        for scheme, width in looks:
            context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
            made.page = await context.new_page()
            # Only colours differ by night.
            await look_through(made, width, contrast_only=scheme == "dark")
            await context.close()
        made.page = await browser.new_page()


async def make_history(made: Console) -> None:
    """Changes of each kind: of fields and settings, of an instruction, a removal."""
    registry = made.fleet.service.registry
    await registry.update_agent(MODELLED, name="Grace", settings={"city": "Rome", "tags": ["wind"]})
    await registry.history.note_instructions({MODELLED: Instruction(system_prompt="Be brief. " * 40)})
    await registry.remove_agent(PAUSED)


async def look_through(made: Console, width: int, *, contrast_only: bool) -> None:
    """Every page of the console, each fact of a row, and the page of the API."""
    page = made.page
    for path in (*PAGES, f"/?agent={MODELLED}&edit"):
        await made.open(path)
        await expect(page.locator("#view .card").first).to_be_visible()
        if path == "/?view=messages":
            await page.get_by_role("button", name="Show message").first.click()
            await expect(page.locator(".details")).to_be_visible()
        assert await made.violations(contrast_only=contrast_only) == [], path
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
    await made.open()
    row = await made.row("Failing").inner_text()
    for fact in ("failing", FAILING, "no key", "fails", "left"):
        assert fact in row
    await page.goto(made.url + "/docs")
    await expect(page.get_by_text("/api/v1/agents/{agent_id}/{action}")).to_be_visible()
    assert await made.violations(contrast_only=contrast_only) == []


async def use_the_keyboard(made: Console) -> None:
    """Without a mouse."""
    page = made.page
    await made.open()
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    await page.get_by_label("Select Plain").focus()
    await page.keyboard.press("Space")
    pause = page.get_by_role("group", name="Do to all that are selected").get_by_role("button", name="Pause")
    await pause.focus()
    await page.keyboard.press("Enter")
    await expect(made.row("Plain")).to_contain_text("paused")
    await made.row("Plain").get_by_role("link").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".title")).to_have_text("Plain")
    await page.get_by_role("button", name="Remove").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert (await made.fleet.service.registry.agent(PLAIN)).paused


async def test_the_apis_page_shows_bodies_and_lets_them_be_tried(tmp_path: Path, page: Page) -> None:
    async with console(tmp_path, page) as made:
        await page.goto(made.url + "/docs")
        await expect(page.locator(".endpoint code", has_text="supervisor doctor").first).to_be_visible()
        assert "`" not in await page.locator("#groups").inner_text()
        bulk = page.locator(".endpoint", has=page.get_by_text("/api/v1/bulk/agents", exact=True))
        await expect(bulk).to_contain_text("body: ManyAgents")
        await bulk.get_by_text("Try it").click()
        body = bulk.get_by_label("Body")
        assert "650000000000000000000001" in await body.input_value()
        await body.fill(f'{{"action": "pause", "ids": ["{PLAIN}"]}}')
        await bulk.get_by_role("button", name="Send").click()
        await expect(bulk.locator("pre")).to_contain_text('"done": 1')
        await made.fleet.state(PLAIN, AgentState.PAUSED)
        one = page.locator(".endpoint", has=page.get_by_text("One agent", exact=True))
        await one.get_by_text("Try it").click()
        await one.get_by_label("agent_id").fill(PLAIN)
        await one.get_by_role("button", name="Ask").click()
        await expect(one.locator("pre")).to_contain_text('"name": "Plain"')


async def test_a_thousand_agents_are_painted_and_updated_quickly(tmp_path: Path, page: Page) -> None:
    async with stack(tmp_path) as fleet:
        secret = f"file:{tmp_path / SECRET_FILE}"
        rows = [AgentRecord(agent_id(n), "echo", secret, name=f"Agent {n}", paused=True) for n in range(1, 1001)]
        await fleet.service.registry.apply(add=rows)
        await fleet.until(lambda: len(fleet.service.fleet.agent_ids()) == 1000)
        began = time.monotonic()
        await page.goto(fleet.service.admin_url)
        await expect(page.locator("#agents tr")).to_have_count(1000)
        painted = time.monotonic() - began
        update = await page.evaluate(
            """async () => {
                const row = document.querySelector("#agents tr:nth-child(500)");
                const box = row.querySelector("input");
                box.click();
                const began = performance.now();
                document.querySelector("#search").value = "agent 5";
                document.querySelector("#search").dispatchEvent(new Event("input"));
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                return performance.now() - began;
            }"""
        )
        print(f"1,000 agents: painted in {painted:.2f} s, searched in {update:.0f} ms")
        assert painted < 10
        assert update < 1000
        await page.goto("about:blank")
