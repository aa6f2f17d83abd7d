"""A platform's settings choose no secret, no program and no webhook: only the agent's row does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from tests.support.assistants import KEY_FILE, ONLINE_SECONDS, Assistants, assistants
from tests.support.fake_mcp import fake_mcp
from tests.support.fake_models import MODEL_KEY, FakeModels, fake_models, refusal
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, is_apology, stack
from tests.support.webhooks import ScriptedWebhook, says, scripted_webhook

SIGNING_FILE = "signing-secret"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Assistants]:
    async with assistants(tmp_path) as running:
        yield running


@pytest.fixture
async def theirs() -> AsyncIterator[FakeModels]:
    """A model that nobody but the platform has named."""
    async with fake_models() as models:
        yield models


@pytest.fixture
async def webhook() -> AsyncIterator[ScriptedWebhook]:
    async with scripted_webhook() as running:
        running.answers = [says("pong")]
        yield running


async def add(fleet: Stack, handler: str, own: dict[str, Any], platform: dict[str, Any], **agent: Any) -> str:
    """An agent with the settings of its row and those that the platform has for it."""
    identity = agent_id(1)
    fleet.sandbox.add_agent(identity, SECRET, instruction="Be brief.", settings=platform, **agent)
    secret = f"file:{fleet.folder / SECRET_FILE}"
    await fleet.service.registry.add_agent(AgentRecord(id=identity, handler=handler, secret=secret, settings=own))
    return identity


def wishes(theirs: FakeModels, key: str) -> dict[str, Any]:
    """What a platform might set to be sent a key of ours."""
    other = {"model": "openai:theirs", "base_url": theirs.openai_url, "api_key": key}
    return {**other, "fallback_models": [other], "temperature": 0.5}


async def test_keys_go_where_the_row_says_and_nowhere_else(fleet: Assistants, theirs: FakeModels) -> None:
    key = f"file:{fleet.stack.folder / KEY_FILE}"
    identity = await add(fleet.stack, "assistant", fleet.settings(), wishes(theirs, key))
    await fleet.stack.online(1, ONLINE_SECONDS)
    await fleet.ask(identity, "hello")
    [request] = fleet.models.requests
    assert (request.model, request.key) == ("gpt-4o", MODEL_KEY)
    assert request.body["temperature"] == 0.5, "what harms nobody the platform may set"
    # Nor does a fallback of the platform's get what the row's model refuses.
    fleet.models.otherwise = refusal(401, "Incorrect API key.", "invalid_api_key")
    [apology] = await fleet.ask(identity, "hello again")
    assert is_apology(apology)
    assert theirs.requests == []


async def test_a_row_without_a_key_gets_none_from_the_platform(fleet: Assistants, theirs: FakeModels) -> None:
    identity = await add(fleet.stack, "assistant", {}, wishes(theirs, f"file:{fleet.stack.folder / KEY_FILE}"))
    await fleet.stack.online(1, ONLINE_SECONDS)
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert "openai:theirs needs an api_key" in fleet.health(identity)
    assert theirs.requests == []


async def test_the_platform_opens_no_way_to_this_machine(fleet: Assistants) -> None:
    async with fake_mcp() as tools:
        servers = {"We": {"type": "http", "url": tools.url}}
        platform = {"allow_local_tools": True}
        identity = await add(fleet.stack, "assistant", fleet.settings(), platform, mcp_servers=servers)
        await fleet.stack.online(1, ONLINE_SECONDS)
        [reply] = await fleet.ask(identity, "hello")
        assert reply.content == "Hello."
        assert tools.requests == []


async def test_a_webhook_is_the_rows(tmp_path: Path, webhook: ScriptedWebhook) -> None:
    (tmp_path / SIGNING_FILE).write_text("shared-with-the-webhook")
    platform = {"url": webhook.url, "signing_secret": f"file:{tmp_path / SIGNING_FILE}", "allow_private": True}
    async with stack(tmp_path, allow_private_webhooks=True) as fleet, scripted_webhook() as own:
        own.answers = [says("from the row's")]
        identity = await add(fleet, "webhook", {}, platform)
        assert "missing required field `url`" in await fleet.state(identity, AgentState.FAULTED)
        await fleet.service.registry.update_agent(identity, settings={**platform, "url": own.url})
        await fleet.online()
        [reply] = await fleet.ask(identity, "hello")
        assert reply.content == "from the row's"
        assert webhook.asked == []


async def test_a_program_is_the_rows(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    async with stack(tmp_path, allow_commands=True) as fleet:
        platform = {"command": ["/bin/sh", "-c", f"touch {trace}; echo theirs"], "output": "text"}
        identity = await add(fleet, "command", {}, platform)
        assert "missing required field `command`" in await fleet.state(identity, AgentState.FAULTED)
        await fleet.service.registry.update_agent(
            identity, settings={"command": ["/bin/echo", "ours"], "output": "text"}
        )
        await fleet.online()
        [reply] = await fleet.ask(identity, "hello", timeout=60)
        assert reply.content == "ours"
    assert not trace.exists()
