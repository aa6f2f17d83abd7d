"""The sandbox's own HTTP side: agents, people, switches, and who may use them."""

from typing import Any

import pytest
from yarl import URL

from supervisor.sandbox.world.faults import switch_names
from tests.sandbox.conftest import AGENT, OTHER, SECRET, Client


async def control(client: Client, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    options: dict[str, Any] = {} if body is None else {"json": body}
    url = f"{client.sandbox.base_url}/sandbox{path}"
    async with client.http.request(method, url, headers=headers, **options) as answer:
        return answer.status, (await answer.json() if answer.content_type == "application/json" else None)


async def test_agents_can_be_added_listed_and_deleted(client: Client) -> None:
    new = {"id": OTHER, "secret": "hush", "name": "Ada", "mcpServers": {}, "instruction": "Be kind."}
    status, shown = await control(client, "POST", "/agents", new)
    assert (status, shown["name"], shown["online"]) == (201, "Ada", False)
    client.sandbox.agents[OTHER].secret = SECRET
    await client.agent(OTHER)
    status, listed = await control(client, "GET", "/agents")
    assert status == 200
    assert [(agent["id"], agent["online"], agent["sockets"]) for agent in listed["agents"]] == [
        (AGENT, False, 0),
        (OTHER, True, 1),
    ]
    assert "hush" not in str(listed)
    assert "secret" not in str(listed)
    assert (await control(client, "DELETE", f"/agents/{OTHER}"))[0] == 204
    assert client.sandbox.is_online(OTHER), "as on the platform, its open sockets stay"
    assert len((await control(client, "GET", "/agents"))[1]["agents"]) == 1
    assert (await control(client, "DELETE", f"/agents/{OTHER}"))[0] == 404


async def test_people_get_tokens_and_talk_by_socket(client: Client) -> None:
    status, person = await control(client, "POST", "/users", {})
    assert status == 201
    socket = await client.connect(person["token"])
    await socket.event("presence:update")
    if client.sandbox.config.profile == "v1":
        status, answer = await control(client, "POST", f"/agents/{AGENT}/conversation")
        assert status == 201
        assert (await socket.call("conversation:join", answer))["success"]
    else:
        assert (await control(client, "POST", f"/agents/{AGENT}/conversation"))[0] == 409
        answer = await socket.call("agent:connect", {"agentId": AGENT})
    conversation = answer["conversationId"]
    await socket.call("message:send", {"conversationId": conversation, "role": "user", "content": "hello"})
    status, said = await control(client, "GET", f"/conversations/{conversation}/messages")
    assert [(row["content"], row["sender"]) for row in said["messages"]] == [("hello", "user")]
    status, again = await control(client, "POST", "/users", {"userId": person["userId"]})
    assert again["userId"] == person["userId"]


async def test_v2_users_cannot_connect_to_agents_that_do_not_exist(v2: Client) -> None:
    _, person = await control(v2, "POST", "/users", {})
    socket = await v2.connect(person["token"])
    wanted = {"success": False, "error": f"Agent with ID {OTHER} not found"}
    assert await socket.call("agent:connect", {"agentId": OTHER}) == wanted


async def test_switches_over_http(client: Client) -> None:
    status, answer = await control(client, "PUT", "/faults/rest", {"status": 429, "retry_after": "3", "times": 1})
    assert status == 200
    assert answer["available"] == list(switch_names())
    assert answer["active"]["rest"]["status"] == 429
    url = f"{client.sandbox.api_url}/agents/{AGENT}/connect"
    assert (await client.post(url, json={"secret": SECRET})).status == 429
    status, answer = await control(client, "GET", "/faults")
    assert (answer["active"], answer["struck"]) == ({}, {"rest": 1})
    for name in switch_names():
        assert (await control(client, "PUT", f"/faults/{name}", {}))[0] == 200
    assert set(client.sandbox.faults.active()) == set(switch_names())
    assert (await control(client, "DELETE", "/faults/hang"))[1]["active"].keys() == set(switch_names()) - {"hang"}
    assert (await control(client, "DELETE", "/faults"))[1]["active"] == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("PUT", "/faults/gravity", {}, 404, "no fault switch 'gravity'"),
        ("DELETE", "/faults/gravity", None, 404, "there are: handshake"),
        ("PUT", "/faults/rest", {"mode": "sulk"}, 422, "Invalid enum value 'sulk'"),
        ("PUT", "/faults/rest", {"stauts": 500}, 422, "unknown field `stauts`"),
        ("PUT", "/faults/rest", {"times": 0}, 422, "Expected `int` >= 1"),
        ("PUT", "/faults/rest", {"retry_after": "1\r\nX: y"}, 422, "matching regex"),
        ("PUT", "/faults/delay", {"rest_seconds": -1}, 422, "Expected `float` >= 0"),
        ("PUT", "/faults/rest", [], 422, "Expected `object`"),
        ("PUT", "/faults/handshake", {"agents": [AGENT]}, 422, "cannot choose agents"),
        ("POST", "/agents", {"id": "ada"}, 422, "24 hex digits"),
        ("POST", "/agents", {}, 422, "missing required field `id`"),
        ("POST", "/agents", {"id": AGENT, "status": "lost"}, 422, "Invalid enum value"),
        ("POST", "/users", {"userId": AGENT}, 422, "not an agent's id"),
        ("POST", "/kick", {"agents": []}, 422, "must not be empty"),
        ("POST", "/kick", {"agents": [OTHER]}, 404, f"there is no agent {OTHER}"),
        ("POST", "/restart", {"downSeconds": -1}, 422, "downSeconds must be between"),
        ("POST", f"/agents/{OTHER}/conversation", None, 404, "there is no agent"),
    ],
)
async def test_bad_input_is_told(v1: Client, method: str, path: str, body: Any, status: int, error: str) -> None:
    got, answer = await control(v1, method, path, body)
    assert got == status
    assert error in answer["error"]


async def test_bodies_are_bounded_json(v1: Client) -> None:
    url = f"{v1.sandbox.base_url}/sandbox/users"
    assert (await v1.post(url, data=b"{")).status == 400
    assert (await v1.post(url, data=b"\xff\xfe")).status == 400
    assert (await v1.post(url, data=b" " * 1_000_001)).status == 413


async def test_actions_over_http(client: Client) -> None:
    socket = await client.agent()
    await socket.barrier()
    assert await control(client, "POST", "/kick", {"agents": [AGENT]}) == (200, {"kicked": 1})
    assert await socket.barrier() == [f"41{socket.namespace},"]
    socket = await client.agent()
    assert (await control(client, "POST", "/cut"))[0] == 200
    await socket.closed()
    assert await control(client, "POST", "/expire-tokens", {"agents": [AGENT]}) == (200, {"expired": 2})
    assert (await control(client, "POST", "/restart", {"downSeconds": 0.05}))[0] == 202
    await client.sandbox.wait_until(lambda: client.sandbox.events[-1].kind == "started", 5)
    await client.agent()


async def test_other_origins_are_refused(v1: Client) -> None:
    own = v1.sandbox.base_url
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{v1.sandbox.port}"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        status, answer = await control(v1, "PUT", "/faults/hang", {}, **headers)
        assert status == 403, headers
        assert "refused" in answer["error"] or "this machine only" in answer["error"]
    assert v1.sandbox.faults.active() == {}
    good = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    assert (await control(v1, "GET", "/faults", **good))[0] == 200
    local = {"Host": f"localhost:{v1.sandbox.port}", "Origin": f"http://localhost:{v1.sandbox.port}"}
    assert (await control(v1, "GET", "/faults", **local))[0] == 200


async def test_the_page_lets_nothing_else_in(v1: Client) -> None:
    base = v1.sandbox.base_url
    async with v1.http.get(base) as page:
        policy = page.headers["Content-Security-Policy"]
        text = await page.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in text
    assert "https://" not in text
    for path, kind in (
        ("/chat/chat.css", "text/css"),
        ("/chat/main.js", "text/javascript"),
        ("/favicon.ico", "image/svg+xml"),
    ):
        async with v1.http.get(f"{base}{path}") as file:
            assert (file.status, file.content_type) == (200, kind)
            assert file.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/chat/nothing.js", "/chat/..%2fsandbox.py", "/chat/%2e%2e/config.py"):
        async with v1.http.get(URL(f"{base}{path}", encoded=True)) as file:
            assert file.status == 404
