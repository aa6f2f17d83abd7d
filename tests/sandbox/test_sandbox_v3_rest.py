"""v3 over REST: tokens, files, people's messages, the licence (docs/protocol.md#8-third-generation). Read, not run."""

import aiohttp
import pytest

from supervisor.sandbox.world.faults import LicenceExpired, NoFileStore
from tests.sandbox.conftest import AGENT, OTHER, PERSON, SECRET, Client, Start


async def test_the_token_endpoint_has_the_id_in_its_body(v3: Client) -> None:
    status, answer = await v3.ask("POST", "/agents/connect", {"id": AGENT, "secret": SECRET, "version": "1"})
    assert status == 201
    assert v3.sandbox.tokens.verify(answer["accessToken"]).id == AGENT
    more = {"ragEnabled", "ragConfig", "ragCollections", "agentCode", "browserApiUrl", "browserApiKey"}
    assert more <= answer.keys()
    assert (await v3.ask("POST", f"/agents/{AGENT}/connect", {"secret": SECRET}))[0] == 201, "deprecated"
    status, answer = await v3.ask("POST", "/agents/connect", {"id": OTHER, "secret": SECRET})
    assert (status, answer["message"]) == (404, f"Agent with ID {OTHER} not found")
    assert (await v3.ask("POST", "/agents/connect", {"id": AGENT, "secret": "wrong"}))[0] == 401
    asked = [(request.agent_id, request.status) for request in v3.sandbox.token_requests]
    assert asked == [(AGENT, 201), (AGENT, 201), (OTHER, 404), (AGENT, 401)]


async def test_the_deprecated_path_can_be_gone(start: Start) -> None:
    client = await start(profile="v3", deprecated_connect=False)
    status, answer = await client.ask("POST", f"/agents/{AGENT}/connect", {"secret": SECRET})
    assert (status, answer["message"]) == (404, f"Cannot POST /agents/{AGENT}/connect")
    assert (await client.ask("POST", "/agents/connect", {"id": AGENT, "secret": SECRET}))[0] == 201


async def test_faults_of_the_token_endpoint_find_the_agent_in_the_body(v3: Client) -> None:
    v3.sandbox.add_agent(OTHER, SECRET)
    v3.sandbox.faults.rest("token", status=410, agents=[OTHER])
    assert (await v3.ask("POST", "/agents/connect", {"id": OTHER, "secret": SECRET}))[0] == 410
    assert (await v3.ask("POST", "/agents/connect", {"id": AGENT, "secret": SECRET}))[0] == 201
    answer = await v3.post(f"{v3.sandbox.api_url}/agents/connect", data=b"{")
    assert answer.status == 400


def form(name: str = "file") -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field(name, b"\x89PNG\r\n\x1a\n", filename="dot.png", content_type="image/png")
    return data


async def test_files_are_uploaded_as_a_form(v3: Client) -> None:
    url, bearer = f"{v3.sandbox.api_url}/files/upload", {"Authorization": f"Bearer {await v3.token()}"}
    answer = await v3.post(url, data=form(), headers=bearer)
    told = await answer.json()
    assert (answer.status, told["success"]) == (201, True)
    assert (told["filename"], told["mimeType"], told["size"]) == ("dot.png", "image/png", 8)
    async with v3.http.get(told["fileUrl"]) as found:
        assert (await found.read(), found.content_type) == (b"\x89PNG\r\n\x1a\n", "image/png")
    [kept] = v3.sandbox.files.all()
    assert kept.filename == "dot.png"
    assert (await v3.post(url, data=form("picture"), headers=bearer)).status == 400
    assert (await v3.post(url, data=form())).status == 401
    assert (await v3.get(told["fileUrl"][:-1])).status == 404
    v3.sandbox.faults.set(NoFileStore())
    assert (await v3.post(url, data=form(), headers=bearer)).status == 500


async def test_earlier_ones_take_no_files(client: Client) -> None:
    bearer = {"Authorization": f"Bearer {await client.token()}"}
    assert (await client.post(f"{client.sandbox.api_url}/files/upload", data=form(), headers=bearer)).status == 404


async def test_a_persons_message_by_rest_comes_twice_with_the_same_id(v3: Client) -> None:
    socket = await v3.agent()
    person = v3.sandbox.tokens.for_user(PERSON)
    photo = {"type": "image", "url": "https://f.example/1.jpg"}
    status, answer = await v3.ask(
        "POST", f"/agents/{AGENT}/message", {"content": "hello", "attachments": [photo]}, token=person
    )
    assert status == 201
    first, second = await socket.event("message:new"), await socket.event("message:new")
    assert first == second
    assert (first["_id"], first["userId"], first["attachments"]) == (answer["messageId"], PERSON, [photo])


async def test_it_is_refused_while_the_agent_is_inactive(v3: Client) -> None:
    """As after a farewell."""
    token = await v3.token()
    await v3.ask("POST", "/agents/disconnect", {}, token=token)
    person = v3.sandbox.tokens.for_user(PERSON)
    status, _ = await v3.ask("POST", f"/agents/{AGENT}/message", {"content": "hello"}, token=person)
    assert status == 400
    assert v3.sandbox.conversations == {}


async def test_writes_need_the_platforms_licence_but_not_the_agents_upkeep(v3: Client) -> None:
    token, person = await v3.token(), v3.sandbox.tokens.for_user(PERSON)
    v3.sandbox.faults.set(LicenceExpired())
    for path, body, who in (
        (f"/agents/{AGENT}/message", {"content": "hello"}, person),
        ("/files/upload", {}, token),
        (f"/agents/{AGENT}/anonymous-token", {}, person),
    ):
        assert (await v3.ask("POST", path, body, token=who))[0] == 402, path
    for path, body in (
        ("/agents/connect", {"id": AGENT, "secret": SECRET}),
        ("/agents/heartbeat", {"status": "busy"}),
        ("/agents/disconnect", {}),
        (f"/agents/{AGENT}/stop", {}),
        (f"/agents/{AGENT}/start", {}),
    ):
        assert (await v3.ask("POST", path, body, token=token))[0] in (200, 201), path
    assert (await v3.ask("GET", f"/conversations/agent/{AGENT}", token=token))[0] == 200


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_an_agents_token_reads_what_its_role_may_read(v3: Client, role: str) -> None:
    v3.sandbox.add_agent(AGENT, SECRET, role=role)
    token = await v3.token()
    for path in (f"/agents/{AGENT}/instruction", "/conversations", f"/actions/conversation/{'0' * 24}/last/1"):
        assert (await v3.ask("GET", path, token=token))[0] == 200
