"""The chat page in Chromium: what a person sees and can do."""

import asyncio
import json
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.sandbox.conftest import AGENT, OTHER, SECRET, Client, RawSocket, Start

pytestmark = pytest.mark.browser


async def said_by_person(client: Client, socket: RawSocket) -> str:
    """The conversation of the next message that a person sends."""
    while (message := await socket.event("message:new"))["role"] != "user":
        pass
    return str(message["conversationId"])


async def open_agent(client: Client, page: Page, text: str = "Hello") -> tuple[RawSocket, str]:
    """An agent that is online, and its conversation with the page, opened by a first message."""
    socket = await client.agent()
    await page.goto(f"{client.sandbox.base_url}/?agent={AGENT}")
    await expect(page.get_by_test_id("empty-thread")).to_be_visible()
    await page.get_by_test_id("composer").fill(text)
    await page.get_by_test_id("send").click()
    return socket, await said_by_person(client, socket)


async def test_a_whole_conversation(client: Client, page: Page) -> None:
    socket, conversation = await open_agent(client, page, "What is <b>6 · 7</b>?")
    mine = page.get_by_test_id("message").first
    await expect(mine).to_contain_text("What is <b>6 · 7</b>?")
    await expect(mine).to_have_attribute("data-role", "user")

    await socket.call("message:typing", {"conversationId": conversation, "isTyping": True})
    await expect(page.get_by_test_id("typing")).to_be_visible()

    async def answer(**message: Any) -> None:
        base = {"conversationId": conversation, "role": "assistant"}
        assert (await socket.call("message:send", {**base, **message}))["success"]

    await answer(content="Let me see.", thinking={"content": "multiply", "visible": True, "duration": 1200})
    await expect(page.get_by_test_id("typing")).to_be_hidden()
    thinking = page.get_by_test_id("thinking")
    await expect(thinking.locator("summary")).to_have_text("Thought for 1.2 s")
    await expect(thinking.get_by_text("multiply")).to_be_hidden()
    await thinking.locator("summary").click()
    await expect(thinking.get_by_text("multiply")).to_be_visible()

    call = {"id": "c", "type": "mcp_tool", "function": {"name": "multiply", "arguments": '{"a":6,"b":7}'}}
    await answer(content="Calculating", type="tool_call", toolCalls=[call])
    await expect(page.get_by_test_id("tool-call").locator("pre")).to_have_text('{\n  "a": 6,\n  "b": 7\n}')
    result = {"toolCallId": "c", "toolName": "multiply", "result": {"value": 42}, "success": True, "executionTime": 3}
    await answer(role="tool", content="42", type="tool_result", toolResults=[result])
    await expect(page.get_by_test_id("tool-result")).to_contain_text("3 ms")
    usage = {"promptTokens": 1450, "completionTokens": 120, "totalTokens": 1570}
    files = ["https://files.example/a.pdf", "document:doc-1"]
    await answer(content="It is 42.", usage=usage, latency=2300, attachments=files)
    await expect(page.get_by_test_id("usage")).to_have_text("1,450 in · 120 out · 1,570 tokens")
    last = page.get_by_test_id("message").last
    await expect(last.get_by_role("link")).to_have_attribute("href", "https://files.example/a.pdf")
    assert await last.get_by_role("link").count() == 1
    await answer(content="Sorry.", type="error", error="boom")
    await expect(page.get_by_test_id("message").last).to_have_attribute("data-type", "error")

    types = await page.get_by_test_id("message").evaluate_all("nodes => nodes.map(node => node.dataset.type)")
    assert types == ["text", "text", "tool_call", "tool_result", "text", "error"]
    await page.reload()
    await expect(page.get_by_test_id("message")).to_have_count(6)
    await expect(page.get_by_test_id("message").first).to_have_attribute("data-from", "person")


async def test_the_keyboard(v1: Client, page: Page) -> None:
    _, conversation = await open_agent(v1, page)
    composer = page.get_by_test_id("composer")
    await composer.press_sequentially("one")
    await composer.press("Shift+Enter")
    await composer.press_sequentially("two")
    await composer.press("Enter")
    await expect(page.get_by_test_id("message").last).to_contain_text("one\ntwo")
    await expect(composer).to_have_value("")
    await expect(page.get_by_test_id("send")).to_be_disabled()
    assert v1.sandbox.messages(conversation)[-1].content == "one\ntwo"


async def test_nothing_of_a_message_becomes_markup(v2: Client, page: Page) -> None:
    """v2 passes on anything, so the page must bear anything."""
    socket, conversation = await open_agent(v2, page)
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    await socket.call(
        "message:send",
        {
            "conversationId": conversation,
            "role": "assistant",
            "content": evil,
            "thinking": {"content": evil, "duration": "long"},
            "toolCalls": [{"function": {"name": evil, "arguments": evil}}, None, 5],
            "toolResults": [{"toolName": evil, "result": None, "success": False, "error": evil}],
            "attachments": ["javascript:alert(1)", "data:text/html,x", 5, evil],
            "sources": [{"label": evil, "content": evil, "url": "javascript:alert(1)"}, None, 5, evil],
            "usage": {"promptTokens": 1},
            "error": evil,
        },
    )
    last = page.get_by_test_id("message").last
    await expect(last).to_contain_text("<img src=x")
    assert await last.locator("img, script, a").count() == 0
    assert "owned" not in await page.title()


async def test_what_an_answer_rests_on_is_shown_on_demand(v2: Client, page: Page) -> None:
    """v2 passes on what it does not know."""
    socket, conversation = await open_agent(v2, page)
    found = [
        {"type": "web", "content": "Open at nine.", "label": "Hours", "url": "https://x.example/hours"},
        {"type": "memory", "content": "Likes tea."},
    ]
    message = {"conversationId": conversation, "role": "assistant", "content": "At nine.", "sources": found}
    await socket.call("message:send", message)
    shown = page.get_by_test_id("sources")
    await expect(shown.locator("summary")).to_have_text("Sources (2)")
    await expect(shown.get_by_text("Open at nine.")).to_be_hidden()
    await shown.locator("summary").click()
    await expect(shown.get_by_text("Open at nine.")).to_be_visible()
    await expect(shown.get_by_text("Likes tea.")).to_be_visible()
    await expect(shown.get_by_role("link")).to_have_attribute("href", "https://x.example/hours")


async def test_the_list_follows_the_fleet(v1: Client, page: Page) -> None:
    await page.goto(v1.sandbox.base_url)
    row = page.get_by_test_id("agent-list").get_by_test_id(f"agent-{AGENT}")
    await expect(row).to_have_attribute("data-online", "false")
    socket = await v1.agent()
    await expect(row).to_have_attribute("data-online", "true")
    await socket.ws.close()
    await expect(row).to_have_attribute("data-online", "false")
    v1.sandbox.add_agent(OTHER, SECRET, name="Ada")
    other = await v1.agent(OTHER)
    await expect(page.get_by_test_id(f"agent-{OTHER}")).to_contain_text("Ada")
    await page.get_by_test_id(f"agent-{OTHER}").click()
    await expect(page).to_have_url(f"{v1.sandbox.base_url}/?agent={OTHER}")
    await page.get_by_test_id("composer").fill("Hi Ada")
    await page.get_by_test_id("composer").press("Enter")
    conversation = await said_by_person(v1, other)
    await page.get_by_test_id(f"agent-{AGENT}").click()
    await expect(page.get_by_test_id("empty-thread")).to_be_visible()
    await other.call("message:send", {"conversationId": conversation, "role": "assistant", "content": "Hi"})
    await expect(page.get_by_label("1 unread")).to_be_visible()


async def test_no_agents_yet(v1: Client, page: Page) -> None:
    v1.sandbox.agents.clear()
    await page.goto(v1.sandbox.base_url)
    await expect(page.get_by_text("No agents are registered yet.")).to_be_visible()
    await expect(page.get_by_test_id("connection")).to_have_text("live")


async def test_it_comes_back_after_a_kick_and_a_refusal_keeps_the_text(client: Client, page: Page) -> None:
    socket, conversation = await open_agent(client, page)
    # It may be back before anybody looks again.
    await page.evaluate(
        """() => {
            window.seen = [];
            const pill = document.getElementById("connection");
            new MutationObserver(() => window.seen.push(pill.dataset.state)).observe(pill, {attributes: true});
        }"""
    )
    client.sandbox.kick()
    # Asked again and again from here: the page lets nobody make code of a text in it.
    async with asyncio.timeout(20):
        while not await page.evaluate("window.seen.includes('reconnecting')"):
            await asyncio.sleep(0.05)
    await expect(page.get_by_test_id("connection")).to_have_text("live")
    again = await client.agent()
    await page.get_by_test_id("composer").fill("Still there?")
    await page.get_by_test_id("composer").press("Enter")
    await expect(page.get_by_test_id("message")).to_have_count(2)
    if client.sandbox.config.profile == "v2":
        await again.call("conversation:join", {"conversationId": conversation})
    await again.call("message:send", {"conversationId": conversation, "role": "assistant", "content": "Yes"})
    await expect(page.get_by_test_id("message")).to_have_count(3)
    assert json.loads(json.dumps([message.content for message in client.sandbox.messages(conversation)]))[-1] == "Yes"
    assert socket.ws is not None


async def test_a_narrow_window_shows_one_thing_at_a_time(v1: Client, page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    await v1.agent()
    await page.goto(v1.sandbox.base_url)
    await page.get_by_test_id(f"agent-{AGENT}").click()
    await expect(page.get_by_test_id("agent-list")).to_be_hidden()
    await expect(page.get_by_test_id("composer")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.get_by_label("Back to the agents").click()
    await expect(page.get_by_test_id("agent-list")).to_be_visible()


async def test_what_comes_while_the_history_is_on_its_way_is_kept(client: Client, page: Page) -> None:
    socket = await client.agent()
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    arrived = asyncio.Event()

    async def late(route: Route) -> None:
        response = await route.fetch()
        if not asked.done():
            asked.set_result(route.request.url.split("/")[-2])
        await arrived.wait()
        await route.fulfill(response=response)

    async def answer(conversation: str, content: str) -> None:
        message = {"conversationId": conversation, "role": "assistant", "content": content}
        assert (await socket.call("message:send", message))["success"]

    await page.route("**/messages", late)
    await page.goto(f"{client.sandbox.base_url}/?agent={AGENT}")
    conversation = await asyncio.wait_for(asked, 10)
    await answer(conversation, "early bird")
    await expect(page.get_by_text("early bird")).to_be_visible()
    async with page.expect_response("**/messages"):
        arrived.set()
    await answer(conversation, "late bird")
    await expect(page.get_by_text("late bird")).to_be_visible()
    await expect(page.get_by_test_id("message")).to_contain_text(["early bird", "late bird"])


async def test_it_says_what_the_platforms_widget_would_hide(v2: Client, page: Page) -> None:
    """The widget draws what has no type or is a message; what is meant for people goes without."""
    socket, conversation = await open_agent(v2, page)
    base = {"conversationId": conversation, "role": "assistant"}
    for kind in ("text", "thinking", "tool_call", "error", "system", "message", None):
        message = {**base, "content": f"of type {kind}"}
        await socket.call("message:send", message if kind is None else {**message, "type": kind})
    await expect(page.get_by_test_id("message")).to_have_count(8)
    labels = await page.get_by_test_id("unseen").all_inner_texts()
    told = "Not shown on the platform (type {})"
    later = "{}: widgets before August 2026 hide it"
    assert labels == [told.format(kind) for kind in ("text", "thinking", "tool_call")] + [
        told.format(later.format(kind)) for kind in ("error", "system")
    ]
    for kind in ("message", None):
        drawn = page.get_by_test_id("message").filter(has_text=f"of type {kind}")
        await expect(drawn.get_by_test_id("unseen")).to_have_count(0)


async def test_what_v1_stores_without_a_type_is_shown_there(v1: Client, page: Page) -> None:
    socket, conversation = await open_agent(v1, page)
    await socket.call("message:send", {"conversationId": conversation, "role": "assistant", "content": "hello"})
    await expect(page.get_by_text("hello", exact=True)).to_be_visible()
    await expect(page.get_by_test_id("unseen")).to_have_count(0)


async def test_any_typing_shows_dots_for_a_while_and_an_answer_ends_them(v2: Client, page: Page) -> None:
    socket, conversation = await open_agent(v2, page)
    dots = page.get_by_test_id("typing")
    base = {"conversationId": conversation, "role": "assistant"}
    await socket.call("message:typing", {"conversationId": conversation, "isTyping": False})
    await expect(dots).to_be_visible()
    await socket.call("message:send", {**base, "content": "hm", "type": "thinking"})
    await expect(page.get_by_test_id("message")).to_have_count(2)
    await expect(dots).to_be_visible()
    await socket.call("message:send", {**base, "content": "answer"})
    await expect(dots).to_be_hidden()
    await socket.call("message:typing", {"conversationId": conversation, "isTyping": True})
    await expect(dots).to_be_visible()
    await expect(dots).to_be_hidden(timeout=10_000)


async def test_it_says_when_the_widgets_input_would_be_locked(v2: Client, page: Page) -> None:
    socket, conversation = await open_agent(v2, page)
    locked, base = page.get_by_test_id("locked"), {"conversationId": conversation, "role": "assistant"}
    await expect(locked).to_be_visible()
    await socket.call("message:send", {**base, "content": "hm", "type": "thinking"})
    await expect(page.get_by_test_id("message")).to_have_count(2)
    await expect(locked).to_be_visible()
    await socket.call("message:send", {**base, "content": "part", "type": "text", "isFinal": True})
    await expect(locked).to_be_hidden()
    await page.get_by_test_id("composer").fill("And then?")
    await page.get_by_test_id("composer").press("Enter")
    await expect(locked).to_be_visible()
    await socket.call("message:send", {**base, "content": "answer"})
    await expect(locked).to_be_hidden()


@pytest.mark.parametrize("stage", ["i", "ii", "iii"])
async def test_the_third_generation(start: Start, page: Page, stage: str) -> None:
    client = await start(profile="v3", stage=stage)
    socket, conversation = await open_agent(client, page)
    photo = {"type": "image", "url": "https://files.example/1.jpg", "filename": "one.jpg"}
    answer = {"conversationId": conversation, "role": "assistant", "content": "Good day", "attachments": [photo]}
    assert (await socket.call("message:send", answer))["success"]
    await expect(page.get_by_text("Good day")).to_be_visible()
    await expect(page.get_by_test_id("message")).to_have_count(2)
    await expect(page.get_by_test_id("unseen")).to_have_count(0)
    await expect(page.get_by_role("link", name="one.jpg")).to_have_count(1 if stage == "i" else 0)
