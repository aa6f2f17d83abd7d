"""What the platform tells of an agent without a new token, over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from supervisor.core.errors import PlatformError
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.instructions import fetch_configuration
from supervisor.protocol.answers import ConnectAnswer, Deployment, Instruction
from supervisor.sandbox import Sandbox
from tests.support.stack import SECRET, agent_id
from tests.support.token_server import answering_json, client, token_server

AGENT = agent_id(1)
KNOWN = ConnectAnswer(
    access_token="tok",
    expires_in=60.0,
    instruction=Instruction(system_prompt="old", guidelines=("be kind",)),
    settings={"tone": "dry"},
    deployment=Deployment(id="d", model="m"),
    allowed_functions=("mcp__a__b",),
    name="A",
)


@pytest.mark.parametrize("profile", ["v1", "v2", "v3"])
async def test_it_is_what_came_with_the_token_placeholders_filled_in(profile: str) -> None:
    async with Sandbox(profile=profile) as sandbox, client() as made:
        servers = {"tools": {"url": "https://tools.example/mcp", "headers": {"X-Team": "a"}}}
        sandbox.add_agent(AGENT, SECRET, instruction="Be brief.", settings={"tone": "dry"}, mcp_servers=servers)
        with_token = await made.tokens.fetch(AGENT, sandbox.api_url, SECRET)
        found = await fetch_configuration(
            made.agent_api, Access(sandbox.api_url, with_token.token), AGENT, with_token.answer
        )
        assert found == with_token.answer, "nothing changed, the header of the tool server included"
        assert len([event for event in sandbox.events if event.kind == "secret_checked"]) == 1
        sandbox.agents[AGENT].settings = {"tone": "warm"}
        found = await fetch_configuration(
            made.agent_api, Access(sandbox.api_url, with_token.token), AGENT, with_token.answer
        )
        assert found is not None
        assert found.settings == {"tone": "warm"}
        headers = found.mcp_servers["tools"]["headers"]
        assert headers == {"X-Team": "a", "Authorization": f"Bearer {with_token.token}"}


async def test_what_a_configuration_does_not_name_stays_as_the_token_brought_it() -> None:
    told: dict[str, Any] = {"accessToken": "", "expiresIn": 0, "instruction": {"id": "i", "systemPrompt": "new"}}

    async with token_server() as server, client() as made:
        for fields, left in (
            ({"settings": {"a": 1}, "tools": [], "mcpServers": {}}, (KNOWN.deployment, KNOWN.allowed_functions, "A")),
            ({"deployment": None, "allowedFunctions": [], "name": "B"}, (None, (), "B")),
        ):
            server.answer = answering_json(200, told | fields)
            found = await fetch_configuration(made.agent_api, Access(server.url, "tok"), AGENT, KNOWN)
            assert found is not None
            assert (found.deployment, found.allowed_functions, found.name) == left
            assert (found.access_token, found.expires_in, found.instruction.system_prompt) == ("tok", 60.0, "new")
            assert found.settings == fields.get("settings", KNOWN.settings)


async def test_where_only_the_instruction_is_told_all_else_stays() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/config"):
            return web.Response(status=404)
        return web.json_response({"id": "i", "systemPrompt": "new"})

    async with token_server() as server, client() as made:
        server.answer = answer
        found = await fetch_configuration(made.agent_api, Access(server.url, "tok"), AGENT, KNOWN)
        assert found is not None
        assert (found.instruction.system_prompt, found.instruction.guidelines) == ("new", ("be kind",))
        assert (found.access_token, found.expires_in, found.name) == ("tok", 60.0, "A")


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_platform_that_tells_nothing_says_so(status: int) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with token_server() as server, client() as made:
        server.answer = answer
        assert await fetch_configuration(made.agent_api, Access(server.url, "tok"), AGENT, KNOWN) is None


@pytest.mark.parametrize("body", ["[]", "{}", '{"instruction": 3}', "no JSON"])
async def test_nonsense_changes_nothing(body: str) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    async with token_server() as server, client() as made:
        server.answer = answer
        with pytest.raises(PlatformError):
            await fetch_configuration(made.agent_api, Access(server.url, "tok"), AGENT, KNOWN)
