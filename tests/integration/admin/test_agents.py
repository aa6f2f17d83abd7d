"""Agents added, changed and removed over the admin API of a running supervisor, with the checks of the command."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from supervisor.core.states import AgentState
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack

A1, A2 = agent_id(1), agent_id(2)
PATH = "/api/v1/agents"


@dataclass
class Api:
    """The API of a running supervisor; no answer of it holds the secret."""

    fleet: Stack
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        url = self.fleet.service.admin_url + path
        async with self.session.request(method, url, data=raw, headers=headers) as answer:
            text = await answer.text()
            assert SECRET not in text
            return answer.status, json.loads(text) if text else None

    def new(self, identity: str = A1, **fields: Any) -> dict[str, Any]:
        """A body for an agent that works."""
        return {"id": identity, "handler": "echo", "secret": f"file:{self.fleet.folder / SECRET_FILE}"} | fields


@asynccontextmanager
async def api(folder: Path, **given: Any) -> AsyncIterator[Api]:
    async with stack(folder, **given) as fleet, aiohttp.ClientSession() as session:
        for identity in (A1, A2):
            fleet.sandbox.add_agent(identity, SECRET)
        yield Api(fleet, session)


async def test_an_agent_is_added_changed_and_removed(tmp_path: Path) -> None:
    async with api(tmp_path) as made:
        fields: dict[str, Any] = {
            "name": "Ada",
            "settings": {"concurrency": 2, "api_key": "hush"},
            "labels": {"team": "x", "site": "y"},
        }
        status, added = await made.ask("POST", PATH, made.new(**fields))
        assert (status, added["id"], added["settings"]) == (201, A1, {"concurrency": 2, "api_key": "[redacted]"})
        await made.fleet.online()
        [reply] = await made.fleet.ask(A1, "hello")
        assert reply.content == "Echo: hello"

        change = {"name": "Grace", "settings": {"concurrency": None, "model": "m"}, "labels": {"team": None}}
        status, changed = await made.ask("PATCH", f"{PATH}/{A1}", change)
        assert (status, changed["name"], changed["labels"]) == (200, "Grace", {"site": "y"})
        kept = await made.fleet.service.registry.agent(A1)
        assert kept.settings == {"api_key": "hush", "model": "m"}
        # What is not shown is refused when it comes back: it would take the secret's place.
        status, answer = await made.ask("PATCH", f"{PATH}/{A1}", {"settings": changed["settings"]})
        assert (status, "leave that key out" in answer["error"]) == (400, True)
        assert (await made.fleet.service.registry.agent(A1)).settings == kept.settings
        assert (await made.ask("PATCH", f"{PATH}/{A1}", {}))[0] == 200
        await made.ask("PATCH", f"{PATH}/{A1}", {"paused": True})
        await made.fleet.state(A1, AgentState.PAUSED)
        assert (await made.ask("GET", f"{PATH}/{A1}"))[1]["paused"] is True

        assert await made.ask("DELETE", f"{PATH}/{A1}") == (204, None)
        assert (await made.ask("GET", PATH))[1] == []
        assert (await made.ask("DELETE", f"{PATH}/{A1}"))[0] == 404
        assert (await made.ask("PATCH", f"{PATH}/{A1}", {"name": "x"}))[0] == 404


async def test_a_change_merges_top_level_keys_only_and_is_described_so(tmp_path: Path) -> None:
    async with api(tmp_path) as made:
        await made.ask("POST", PATH, made.new(settings={"kept": 1, "nested": {"a": 1, "b": 2}, "gone": 3}))
        await made.ask("PATCH", f"{PATH}/{A1}", {"settings": {"nested": {"b": None}, "gone": None}})
        kept = await made.fleet.service.registry.agent(A1)
        assert kept.settings == {"kept": 1, "nested": {"b": None}}
        _, described = await made.ask("GET", "/openapi.json")
        body = described["components"]["schemas"]["ChangedAgent"]["description"]
        for text in (body, described["paths"][f"{PATH}/{{agent_id}}"]["patch"]["description"]):
            assert "top-level keys" in " ".join(text.split())
            assert "RFC" not in text, "7386 would merge nested objects too"


async def test_what_could_not_run_is_refused_with_the_words_of_the_command(tmp_path: Path) -> None:
    async with api(tmp_path) as made:
        refused: list[tuple[dict[str, Any], str]] = [
            ({"handler": "ecco"}, "did you mean echo?"),
            ({"handler": "os:system"}, "There is no handler 'os'"),
            ({"handler": "os.path:join"}, "SUPERVISOR_HANDLER_PACKAGES"),
            ({"secret": SECRET}, "not a reference"),
            ({"secret": "env:HOME"}, "SUPERVISOR_SECRET_ENV_PREFIXES"),
            ({"secret": "file:/etc/passwd"}, "SUPERVISOR_SECRET_DIRS"),
            ({"settings": {"concurrency": 0}}, "concurrency"),
            ({"settings": {"api_url": "https://evil.example"}}, "SUPERVISOR_ALLOWED_HOSTS"),
        ]
        deep: Any = {}
        for _ in range(100):
            deep = {"x": deep}
        refused.append(({"settings": deep}, "settings is nested more than 64 deep"))
        await made.ask("POST", PATH, made.new(A2))
        before = await made.fleet.service.registry.agent(A2)
        for fields, words in [({"id": "a b"}, "no id has"), ({"id": "A" * 24}, "write it as"), *refused]:
            status, answer = await made.ask("POST", PATH, made.new(**fields))
            assert (status, words in answer["error"]) == (400, True), (fields, answer)
        for fields, words in refused:
            status, answer = await made.ask("PATCH", f"{PATH}/{A2}", fields)
            assert (status, words in answer["error"]) == (400, True), (fields, answer)
        status, answer = await made.ask("POST", PATH, made.new(A2))
        assert (status, "registered already" in answer["error"]) == (409, True)
        assert await made.fleet.service.registry.agents() == [before]


async def test_bodies_that_are_none_change_nothing(tmp_path: Path) -> None:
    async with api(tmp_path) as made:
        await made.ask("POST", PATH, made.new(A2))
        before = await made.fleet.service.registry.agent(A2)
        odd = (b"", b"[]", b"null", b"{", b"\xff", b'{"id": 7}', b'{"paused": "yes"}', b'{"labels": {"a": 1}}')
        for body in (*odd, b'{"colour": "red"}', b'{"settings": {"x": NaN}}', b'{"name": "\\ud800"}', b"[" * 50_000):
            for method, path in (("POST", PATH), ("PATCH", f"{PATH}/{A2}")):
                status, answer = await made.ask(method, path, body)
                assert status in (400, 422), (method, body[:40], answer)
                assert answer["error"]
        assert (await made.ask("PATCH", f"{PATH}/{A2}", {"id": A1}))[0] == 422
        assert await made.fleet.service.registry.agents() == [before]


async def test_agents_their_messages_and_events_are_selected_as_commands_select_them(tmp_path: Path) -> None:
    async with api(tmp_path) as made:
        await made.ask("POST", PATH, made.new(labels={"team": "support"}))
        await made.ask("POST", PATH, made.new(A2, handler="tour", paused=True))
        await made.fleet.online()

        async def ids(query: str) -> list[str]:
            status, agents = await made.ask("GET", f"{PATH}?{query}")
            assert status == 200
            return [agent["id"] for agent in agents]

        assert await ids("") == [A1, A2]
        assert await ids("label=team=support") == [A1]
        assert await ids("label=team&state=online&handler=echo") == [A1]
        assert await ids("state=paused&state=faulted") == [A2]
        assert await ids("state=failing") == []
        status, refused = await made.ask("GET", f"{PATH}?state=asleep")
        assert (status, "no state 'asleep'" in refused["error"]) == (400, True)
        assert (await made.ask("GET", "/api/v1/messages?agent_state=asleep"))[0] == 400

        await made.fleet.ask(A1, "hello")
        answered = "/api/v1/messages?state=done"
        for query, found in (("label=team", 1), ("handler=tour", 0), ("agent_state=online", 1), ("label=none", 0)):
            assert len((await made.ask("GET", f"{answered}&{query}"))[1]) == found, query

        async def events(query: str) -> list[dict[str, Any]]:
            url = f"{made.fleet.service.admin_url}/api/v1/events?last=1000&follow=false&{query}"
            async with made.session.get(url) as answer:
                lines = (await answer.text()).splitlines()
            return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

        assert {event["agent"] for event in await events("label=team")} == {A1}
        assert {event["agent"] for event in await events("state=paused")} == {A2}
        assert [event["state"] for event in await events("text=state=online&kind=state")] == ["online"]
        assert await events("newer_than_seconds=0") == []
        assert await events("newer_than_seconds=600") != []
