"""Lists of conversations over REST, with their traps (docs/protocol.md#7-findings, 2)."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest

from supervisor.sandbox.world.ids import timestamp
from tests.sandbox.conftest import AGENT, OTHER, SECRET, Client, Start


@pytest.fixture(params=["v1", "v2", "v3"])
async def every(request: pytest.FixtureRequest, start: Start) -> Client:
    """A sandbox of each generation."""
    return await start(profile=request.param)


async def talks(client: Client, agent_id: str = AGENT, count: int = 1) -> list[str]:
    """So many people talk to an agent, one after the other; the conversations' ids."""
    ids = []
    for number in range(count):
        user = await client.sandbox.user()
        ids.append(await user.open(agent_id))
        await user.say(ids[-1], f"hello {number}")
    return ids


async def listed(client: Client, path: str) -> Any:
    status, answer = await client.ask("GET", f"/conversations{path}", token=await client.token())
    assert status == 200
    return answer


def ids_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["_id"] for row in rows]


async def test_an_agents_conversations_are_a_bare_array(every: Client) -> None:
    """Whole rows, the one that changed last first, no limit."""
    client = every
    client.sandbox.add_agent(OTHER, SECRET)
    many = client.sandbox.config.profile != "v1"
    mine = await talks(client, count=12 if many else 1)
    await talks(client, OTHER)
    rows = await listed(client, f"/agent/{AGENT}?status=active")
    assert ids_of(rows) == mine[::-1]
    assert {row["agentId"] for row in rows} == {AGENT}
    assert all(row["isDeleted"] is False for row in rows)
    assert rows[0]["totalMessages"] == 1
    assert rows[0]["lastMessage"]["role"] == "user"
    assert await listed(client, f"/agent/{AGENT}?status=closed") == []
    assert ids_of(await listed(client, f"/agent/{AGENT}")) == mine[::-1]
    if many:
        assert (rows[0]["userType"], rows[0]["participants"][0]["type"]) == ("authenticated", "user")


async def test_a_viewer_may_list_its_conversations(every: Client) -> None:
    every.sandbox.add_agent(AGENT, SECRET, role="viewer")
    mine = await talks(every)
    assert ids_of(await listed(every, f"/agent/{AGENT}?status=active")) == mine


async def test_conversations_are_asked_for_with_a_token(every: Client) -> None:
    for path in (f"/conversations/agent/{AGENT}", "/conversations"):
        assert (await every.ask("GET", path))[0] == 401


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_pages_take_filters_in_brackets(start: Start, profile: str) -> None:
    client = await start(profile=profile)
    client.sandbox.add_agent(OTHER, SECRET)
    mine = await talks(client, count=12 if profile == "v2" else 1)
    await talks(client, OTHER)
    query = f"?filter[agentId]={AGENT}&filter[status]=active"
    answer = await listed(client, query)
    assert answer["pagination"] == {"page": 1, "limit": 10, "total": len(mine)}
    assert answer["statistics"]["total"] == len(mine)
    assert ids_of(answer["data"]) == mine[::-1][:10]
    assert "createdBy" not in answer["data"][0]
    rest = await listed(client, f"{query}&page=2")
    assert ids_of(rest["data"]) == mine[::-1][10:]
    assert len((await listed(client, f"{query}&limit=5000"))["data"]) == len(mine), "there is no maximum"


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_a_plain_name_is_dropped_and_gives_the_whole_organisations(start: Start, profile: str) -> None:
    client = await start(profile=profile)
    client.sandbox.add_agent(OTHER, SECRET)
    await talks(client), await talks(client, OTHER)
    rows = (await listed(client, f"?agentId={AGENT}&status=active"))["data"]
    assert {row["agentId"] for row in rows} == {AGENT, OTHER}


async def test_pages_can_begin_at_a_time(v2: Client) -> None:
    old, new = await talks(v2, count=2)
    v2.sandbox.conversations[old].updated_at -= 100
    since = quote(timestamp(v2.sandbox.conversations[new].updated_at - 50))
    rows = (await listed(v2, f"?filter[agentId]={AGENT}&filter[updatedAt][$gte]={since}"))["data"]
    assert ids_of(rows) == [new]


async def test_only_later_ones_sort_by_themselves(start: Start) -> None:
    for profile, plain_is_sorted in (("v1", False), ("v2", True)):
        client = await start(profile=profile)
        client.sandbox.add_agent(OTHER, SECRET)
        await talks(client), await talks(client, OTHER)
        oldest_first = [AGENT, OTHER]
        rows = (await listed(client, "?limit=50"))["data"]
        assert [row["agentId"] for row in rows] == (oldest_first[::-1] if plain_is_sorted else oldest_first)
        rows = (await listed(client, "?limit=50&sort[updatedAt]=-1"))["data"]
        assert [row["agentId"] for row in rows] == oldest_first[::-1]


async def test_v3_wants_plain_names_and_finds_nothing_where_there_are_brackets(v3: Client) -> None:
    v3.sandbox.add_agent(OTHER, SECRET)
    mine = await talks(v3, count=3)
    await talks(v3, OTHER)
    good = await listed(v3, f"?agentId={AGENT}&status=active&page=1&limit=2")
    assert (ids_of(good["data"]), good["pagination"]["total"]) == (mine[::-1][:2], 3)
    status, answer = await v3.ask(
        "GET", f"/conversations?filter[agentId]={AGENT}&filter[status]=active", token=await v3.token()
    )
    assert (status, answer["data"], answer["pagination"]["total"]) == (200, [], 0)


async def test_v3_finds_the_unanswered_ones(v3: Client) -> None:
    answered, waiting = await talks(v3, count=2)
    socket = await v3.agent()
    await socket.call("message:send", {"conversationId": answered, "role": "assistant", "content": "hello"})
    rows = (await listed(v3, f"?agentId={AGENT}&unanswered=true"))["data"]
    assert ids_of(rows) == [waiting]


async def test_the_last_message_is_cut_and_its_role_is_the_generations_own(start: Start) -> None:
    for profile, role in (("v1", "assistant"), ("v2", "agent")):
        client = await start(profile=profile)
        [conversation] = await talks(client)
        socket = await client.agent()
        message = {"conversationId": conversation, "role": "assistant", "content": "x" * 150, "type": "thinking"}
        assert (await socket.call("message:send", message))["success"]
        [row] = await listed(client, f"/agent/{AGENT}")
        last = row["lastMessage"]
        assert (last["content"], last["role"], row["totalMessages"]) == ("x" * 100, role, 2)
        assert last["createdAt"] <= row["updatedAt"]


async def test_the_last_message_can_be_text_alone_in_v3(v3: Client) -> None:
    v3.sandbox.bridge.person().say(AGENT, "from afar")
    [row] = await listed(v3, f"/agent/{AGENT}")
    assert row["lastMessage"] == "from afar"


async def test_an_id_that_was_found_can_be_joined(v2: Client) -> None:
    """So people who began a conversation while the agent was away can be answered."""
    user = await v2.sandbox.user()
    conversation = await user.open(AGENT)
    await user.say(conversation, "anybody?")
    socket = await v2.agent()
    await user.say(conversation, "hello?")
    assert await socket.events("message:new") == [], "without a join not even the second message comes"
    [row] = await listed(v2, f"/agent/{AGENT}?status=active")
    assert (await socket.call("conversation:join", {"conversationId": row["_id"]}))["success"]
    await user.say(conversation, "third")
    assert (await socket.event("message:new"))["content"] == "third"


async def test_v2_lets_an_agent_join_a_foreign_conversation_and_makes_its_socket_that_agent(v2: Client) -> None:
    v2.sandbox.add_agent(OTHER, SECRET)
    user = await v2.sandbox.user()
    conversation = await user.open(AGENT)
    await v2.agent()
    stranger = await v2.agent(OTHER)
    assert (await stranger.call("conversation:join", {"conversationId": conversation}))["success"]
    sent = await stranger.call("message:send", {"conversationId": conversation, "role": "assistant", "content": "x"})
    assert sent["success"]
    assert v2.sandbox.messages(conversation)[-1].sender_id == AGENT
    watcher = await v2.person("d" * 24)
    await stranger.ws.close()
    gone = await watcher.event("presence:update")
    assert (gone["agentId"], gone["status"]) == (AGENT, "offline"), "and its end is told as the other's"


async def test_leaving_any_conversation_clears_the_default_one(client: Client) -> None:
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    socket = await client.agent()
    await socket.call("conversation:join", {"conversationId": conversation})
    assert (await socket.call("message:send", {"role": "assistant", "content": "x"}))["success"]
    await socket.call("conversation:leave", {"conversationId": "f" * 24})
    refused = await socket.call("message:send", {"role": "assistant", "content": "y"})
    assert refused["error"].startswith("No conversation found. ")
