"""REST beyond the recordings: settings of the answer, history pages, records of requests."""

import asyncio
from typing import Any

import pytest

from supervisor.sandbox.world.tokens import InvalidTokenError, TokenMint
from tests.sandbox.conftest import AGENT, OTHER, SECRET, Client, Start


async def get(client: Client, path: str, token: str | None = None) -> tuple[int, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = await client.get(f"{client.sandbox.api_url}{path}", headers=headers)
    return answer.status, await answer.json()


async def post(client: Client, path: str, body: Any, token: str | None = None) -> tuple[int, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = await client.post(f"{client.sandbox.api_url}{path}", json=body, headers=headers)
    return answer.status, await answer.json()


async def test_an_agent_gets_what_was_set_for_it(client: Client) -> None:
    client.sandbox.add_agent(
        OTHER,
        SECRET,
        name="Ada",
        instruction="Be kind.",
        settings={"temperature": 0.5},
        mcp_servers={"Tools": {"url": "http://tools/mcp", "headers": {"X-Team": "a"}}},
        deployment={"id": "d", "provider": "openai", "model": "m", "baseAPIEndpoint": "http://llm", "apiEndpoint": ""},
        allowed_functions=["mcp__Tools__add"],
    )
    status, answer = await post(client, f"/agents/{OTHER}/connect", {"secret": SECRET})
    assert status == 201
    assert answer["instruction"]["systemPrompt"] == "Be kind."
    assert answer["settings"] == {"temperature": 0.5}
    headers = {"X-Team": "a", "Authorization": f"Bearer {answer['accessToken']}"}
    assert answer["mcpServers"] == {"Tools": {"type": "http", "url": "http://tools/mcp", "headers": headers}}
    if client.sandbox.config.profile == "v2":
        assert answer["deployment"]["model"] == "m"
        assert answer["allowedFunctions"] == ["mcp__Tools__add"]
        assert answer["name"] == "Ada"
    else:
        assert not {"deployment", "allowedFunctions", "name"} & answer.keys()


async def test_every_token_request_is_recorded(client: Client) -> None:
    await post(client, f"/agents/{AGENT}/connect", {"secret": "wrong"})
    await client.token()
    recorded = [(request.agent_id, request.status) for request in client.sandbox.token_requests]
    assert recorded == [(AGENT, 401), (AGENT, 201)]


async def test_short_lived_tokens_expire(start: Start) -> None:
    client = await start(expires_in_seconds=0.1)
    status, answer = await post(client, f"/agents/{AGENT}/connect", {"secret": SECRET})
    assert (status, answer["expiresIn"]) == (201, 0.1)
    await asyncio.sleep(0.11)
    status, answer = await get(client, f"/messages/conversation/{'0' * 24}", answer["accessToken"])
    assert (status, answer["message"]) == (401, "Unauthorized")


async def test_unknown_agents_register_themselves_where_that_is_on(start: Start) -> None:
    client = await start(open_registration=True)
    assert (await post(client, f"/agents/{OTHER}/connect", {"secret": "first"}))[0] == 201
    assert (await post(client, f"/agents/{OTHER}/connect", {"secret": "second"}))[0] == 401
    assert (await post(client, "/agents/not-an-id/connect", {"secret": "x"}))[0] == 500
    assert OTHER in client.sandbox.agents


async def test_bad_json_is_a_400(client: Client) -> None:
    answer = await client.post(f"{client.sandbox.api_url}/agents/{AGENT}/connect", data=b"{")
    assert answer.status == 400
    answer = await client.post(f"{client.sandbox.api_url}/agents/{AGENT}/connect", data=b"[1]")
    assert (await answer.json())["errors"] == ["secret must be a string", "secret should not be empty"]


async def test_history_pages_run_from_the_oldest(client: Client) -> None:
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    for number in range(12):
        await user.say(conversation, str(number))
    token = await client.token()
    where = "messages" if client.sandbox.config.profile == "v1" else "actions"
    contents: list[str] = []
    for page in range(1, 5):
        status, answer = await get(client, f"/{where}/conversation/{conversation}?page={page}&limit=5", token)
        assert status == 200
        assert (answer["total"], answer["page"], answer["limit"]) == (12, page, 5)
        contents += [row["content"] for row in answer["data"]]
    assert contents == [str(number) for number in range(12)]
    assert (await get(client, f"/{where}/conversation/{conversation}?page=x&limit=-1", token))[1]["limit"] == 50
    assert (await get(client, f"/{where}/conversation/{'0' * 24}", token))[1]["data"] == []
    assert (await get(client, f"/{where}/conversation/nope", token)) == (
        200,
        {"data": [], "total": 0, "page": 1, "limit": 50},
    )


async def test_v2_history_is_elsewhere(v2: Client) -> None:
    user = await v2.sandbox.user()
    conversation = await user.open(AGENT)
    await user.say(conversation, "hello")
    answer = (await get(v2, f"/messages/conversation/{conversation}", await v2.token()))[1]
    assert (answer["data"], answer["total"]) == ([], 0)


async def test_v1_has_no_actions(v1: Client) -> None:
    status, answer = await get(v1, f"/actions/conversation/{'0' * 24}", await v1.token())
    assert (status, answer["message"]) == (404, f"Cannot GET /actions/conversation/{'0' * 24}")


async def test_errors_name_the_path_without_the_prefix(client: Client) -> None:
    _, answer = await get(client, "/nowhere?x=1")
    assert answer["path"] == "/nowhere?x=1"


def test_tokens_are_bound_to_their_key_and_form() -> None:
    mint = TokenMint(organisation_id="b" * 24)
    token = mint.issue("agent", AGENT, role="editor", expires_in_seconds=60)
    identity = mint.verify(token)
    assert (identity.kind, identity.id) == ("agent", AGENT)
    head, body, signature = token.split(".")
    bad = (
        None,
        "",
        "abc",
        f"{head}.{body}",
        f"{head}.{body}.",
        f"{head}.{body[:-2]}.{signature}",
        f"a.b.{signature}",
        "a.b.é",
    )
    for other in bad:
        with pytest.raises(InvalidTokenError):
            mint.verify(other)
    with pytest.raises(InvalidTokenError):
        TokenMint(organisation_id="b" * 24).verify(token)


async def test_the_default_page_has_fifty_rows_and_a_page_has_no_maximum(client: Client) -> None:
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    for number in range(60):
        await user.say(conversation, str(number))
    where = "messages" if client.sandbox.config.profile == "v1" else "actions"
    token = await client.token()
    assert len((await get(client, f"/{where}/conversation/{conversation}", token))[1]["data"]) == 50
    assert len((await get(client, f"/{where}/conversation/{conversation}?limit=100000", token))[1]["data"]) == 60


async def test_the_last_rows_are_a_bare_array_oldest_first(client: Client) -> None:
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    for number in range(5):
        await user.say(conversation, str(number))
    where = "messages" if client.sandbox.config.profile == "v1" else "actions"
    status, rows = await get(client, f"/{where}/conversation/{conversation}/last/2", await client.token())
    assert (status, [row["content"] for row in rows]) == (200, ["3", "4"])
    assert (await get(client, f"/{where}/conversation/{conversation}/last/2"))[0] == 401


async def test_the_own_configuration_can_be_read_with_the_own_token(client: Client) -> None:
    """Without a bcrypt check, and whether the agent is suspended or not."""
    client.sandbox.add_agent(AGENT, SECRET, instruction="Be kind.", settings={"temperature": 0.5})
    token = await client.token()
    asked = len(client.sandbox.token_requests)
    client.sandbox.agents[AGENT].status = "suspended"
    status, answer = await get(client, f"/agents/{AGENT}/config", token)
    assert status == 200
    assert (answer["accessToken"], answer["expiresIn"]) == ("", 0)
    assert answer["instruction"]["systemPrompt"] == "Be kind."
    assert answer["settings"] == {"temperature": 0.5}
    bearer = answer["mcpServers"]["Builtin"]["headers"]["Authorization"]
    assert bearer == "Bearer <USER_ACCESS_TOKEN>"
    assert len(client.sandbox.token_requests) == asked
    assert (await get(client, f"/agents/{AGENT}/config"))[0] == 401
    assert (await get(client, f"/agents/{OTHER}/config", token))[0] == 404


async def test_the_instruction_as_it_is_now(v2: Client, v1: Client) -> None:
    token = await v2.token()
    for prompt in ("Be kind.", "Be brief."):
        v2.sandbox.agents[AGENT].instruction = {"id": "i", "systemPrompt": prompt, "guidelines": []}
        v2.sandbox.agents[AGENT].status = "suspended"
        assert await get(v2, f"/agents/{AGENT}/instruction", token) == (200, {"id": "i", "systemPrompt": prompt})
    assert (await get(v1, f"/agents/{AGENT}/instruction", await v1.token()))[0] == 404


async def test_a_form_will_do_for_the_token_endpoint(client: Client) -> None:
    answer = await client.post(f"{client.sandbox.api_url}/agents/{AGENT}/connect", data={"secret": SECRET})
    assert answer.status == 201


async def test_old_platforms_know_no_token_endpoint_without_the_id(client: Client) -> None:
    status, answer = await post(client, "/agents/connect", {"id": AGENT, "secret": SECRET})
    assert (status, answer["message"]) == (404, "Cannot POST /agents/connect")


async def test_agents_that_register_themselves_can_have_the_platforms_default_role(start: Start) -> None:
    client = await start(open_registration=True, registration_role="viewer")
    await post(client, f"/agents/{OTHER}/connect", {"secret": "first"})
    assert client.sandbox.agents[OTHER].role == "viewer"
