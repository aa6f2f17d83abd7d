"""Whichever replica is asked, the answer is the fleet's; what does not answer is shown by its rows, and said."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.applications import Starlette

from supervisor.admin import AdminServer
from supervisor.core.records import AgentRecord
from supervisor.core.replicas import Replica
from supervisor.core.states import AgentState
from supervisor.peers import Doorkeeper, Gate, Key
from tests.support.stack import agent_id
from tests.support.together import TOKEN, Together, together

AGENTS = "/api/v1/agents"


async def two_agents(fleet: Together) -> tuple[str, str]:
    """An agent of each replica, online."""
    ada = await fleet.add(1, 1, name="Ada", settings={"api_key": "hush"})
    bob = await fleet.add(2, 2, name="Bob", settings={"api_key": "hush"}, labels={"team": "x"})
    for member in fleet.members.values():
        await member.stack.online()
    return ada, bob


async def test_each_shows_all_agents_and_says_whose_they_are(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        ada, bob = await two_agents(fleet)
        for number in fleet.members:
            status, agents = await fleet.ask(number, "GET", AGENTS)
            shown = [(one["id"], one["state"], one["replica"], one["stale_since"], one["settings"]) for one in agents]
            hidden = {"api_key": "[redacted]"}
            assert (status, shown) == (200, [(ada, "online", 1, None, hidden), (bob, "online", 2, None, hidden)])
            for identity, replica in ((ada, 1), (bob, 2)):
                status, agent = await fleet.ask(number, "GET", f"{AGENTS}/{identity}")
                assert (status, agent["state"], agent["replica"]) == (200, "online", replica)
            assert (await fleet.ask(number, "GET", f"{AGENTS}/{agent_id(9)}"))[0] == 404
        _, chosen = await fleet.ask(1, "GET", f"{AGENTS}?label=team=x")
        assert [one["id"] for one in chosen] == [bob]


async def test_the_figures_are_those_of_all_with_a_line_for_each(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        await two_agents(fleet)
        status, overview = await fleet.ask(1, "GET", "/api/v1/status")
        assert (status, overview["agents"], overview["unknown"]) == (200, {"online": 2}, 0)
        lines = [(one["id"], one["state"], one["agents"], one["online"], one["me"]) for one in overview["replicas"]]
        assert lines == [(1, "living", 1, 1, True), (2, "living", 1, 1, False)]
        assert (await fleet.ask(2, "GET", "/api/v1/replicas"))[1][0]["address"] == fleet.url(1)
        assert await fleet.ask(1, "POST", "/api/v1/replicas/2/drain") == (202, None)
        assert fleet.roster.drained == [2]
        assert (await fleet.ask(1, "POST", "/api/v1/replicas/7/drain"))[0] == 409


async def test_what_is_wanted_of_an_agent_is_done_by_its_replica(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        ada, bob = await two_agents(fleet)
        other = fleet.members[2].stack
        status, agent = await fleet.ask(1, "POST", f"{AGENTS}/{bob}/pause")
        assert (status, agent["paused"]) == (200, True)
        await other.state(bob, AgentState.PAUSED)
        _, [event] = await fleet.ask(2, "GET", f"{AGENTS}/{bob}/history?limit=1")
        assert event["actor"]["address"] == "full access by token from 127.0.0.1"
        assert (await fleet.ask(1, "POST", f"{AGENTS}/{bob}/resume"))[0] == 200
        await other.online()
        assert (await fleet.ask(1, "POST", f"{AGENTS}/{bob}/reload"))[0] == 200
        many = {"action": "pause", "ids": [ada, bob, agent_id(9)]}
        status, done = await fleet.ask(1, "POST", "/api/v1/bulk/agents", many)
        assert (status, done["done"], [*done["refused"]]) == (200, 2, [agent_id(9)])
        await other.state(bob, AgentState.PAUSED)
        await fleet.members[1].stack.state(ada, AgentState.PAUSED)


async def test_what_an_agent_did_is_asked_of_its_replica(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        _, bob = await two_agents(fleet)
        await fleet.members[2].stack.ask(bob, "hello")
        status, minutes = await fleet.ask(1, "GET", f"{AGENTS}/{bob}/activity")
        assert (status, sum(one["answered"] for one in minutes)) == (200, 1)
        status, conversations = await fleet.ask(1, "GET", f"{AGENTS}/{bob}/conversations")
        assert (status, len(conversations)) == (200, 1)


async def test_a_replica_that_is_silent_spoils_no_answer(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        ada, bob = await two_agents(fleet)
        assert (await fleet.ask(1, "GET", f"{AGENTS}/{bob}"))[1]["trouble"] == ""
        address = fleet.url(2)
        await fleet.silence(2)
        status, agents = await fleet.ask(1, "GET", AGENTS)
        assert (status, [(one["id"], one["trouble"]) for one in agents]) == (200, [(ada, ""), (bob, "unknown")])
        lost = agents[1]
        assert (lost["name"], lost["labels"], lost["settings"]) == ("Bob", {"team": "x"}, {"api_key": "[redacted]"})
        assert lost["reason"].startswith(f"Replica 2 (pid 2 on host-2) does not answer at {address}: ")
        assert 0 < time.time() - lost["stale_since"] < 60
        # It is left alone for a while: whoever asks now waits for nobody.
        status, one = await fleet.ask(1, "GET", f"{AGENTS}/{bob}")
        assert (status, one["trouble"], one["replica"]) == (200, "unknown", 2)
        _, overview = await fleet.ask(1, "GET", "/api/v1/status")
        assert (overview["agents"], overview["unknown"]) == ({"online": 1, "unknown": 1}, 1)
        assert [(one["state"], bool(one["reason"])) for one in overview["replicas"]] == [
            ("living", False),
            ("silent", True),
        ]
        assert any("Replica 2" in notice for notice in overview["notices"])
        _, chosen = await fleet.ask(1, "GET", f"{AGENTS}?state=unknown")
        assert [one["id"] for one in chosen] == [bob]
        # What only its process could do is refused, and says why.
        status, refusal = await fleet.ask(1, "POST", f"{AGENTS}/{bob}/reload")
        assert (status, "Replica 2" in refusal["error"]) == (503, True)
        assert (await fleet.ask(1, "GET", f"{AGENTS}/{bob}/activity"))[0] == 503
        # Health is each one's own.
        assert (await fleet.ask(1, "GET", "/readyz"))[0] == 200


async def test_an_agent_that_nobody_runs_yet_is_shown_too(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        _, bob = await two_agents(fleet)
        await fleet.members[2].stack.service.registry.remove_agent(bob)
        await fleet.members[2].stack.until(lambda: not fleet.members[2].stack.service.control.statuses())
        status, agent = await fleet.ask(1, "GET", f"{AGENTS}/{bob}")
        assert (status, agent["trouble"], agent["reason"]) == (200, "unknown", "replica 2 takes it up just now")
        del fleet.roster.agents[bob]
        status, agent = await fleet.ask(1, "GET", f"{AGENTS}/{bob}")
        assert (status, agent["replica"], agent["reason"]) == (200, None, "no replica runs it yet")
        status, refusal = await fleet.ask(1, "POST", f"{AGENTS}/{bob}/reload")
        assert (status, refusal["error"]) == (503, f"No replica runs agent {bob} yet; try again")
        assert [one["trouble"] for one in (await fleet.ask(1, "GET", AGENTS))[1]] == ["", "unknown"]


async def test_while_the_registry_cannot_be_read_the_replicas_are_still_asked(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        ada, bob = await two_agents(fleet)
        assert (await fleet.ask(1, "GET", AGENTS))[0] == 200
        fleet.roster.fails = True
        status, agents = await fleet.ask(1, "GET", AGENTS)
        assert (status, [(one["id"], one["state"]) for one in agents]) == (200, [(ada, "online"), (bob, "online")])


async def test_without_a_token_each_answers_for_itself_and_says_so(tmp_path: Path) -> None:
    async with together(tmp_path, admin_token=None) as fleet:
        ada, bob = await two_agents(fleet)
        _, agents = await fleet.ask(1, "GET", AGENTS, token="")
        assert [(one["id"], one["trouble"]) for one in agents] == [(ada, ""), (bob, "unknown")]
        assert "without SUPERVISOR_ADMIN_TOKEN replicas do not ask each other" in agents[1]["reason"]
        # Nor can anybody ask as one of them.
        assert (await fleet.ask(1, "POST", "/replicas/hello", token=""))[0] == 404


async def test_who_only_reads_sees_no_more_of_another_replica(tmp_path: Path) -> None:
    async with together(tmp_path, admin_read_token="reader") as fleet:
        _, bob = await two_agents(fleet)
        _, agents = await fleet.ask(1, "GET", AGENTS, token="reader")
        assert [(one["id"], one["settings"]) for one in agents][1] == (bob, {})
        await fleet.silence(2)
        _, agents = await fleet.ask(1, "GET", AGENTS, token="reader")
        assert (agents[1]["settings"], agents[1]["trouble"], agents[1]["reason"]) == ({}, "unknown", "")
        assert (await fleet.ask(1, "POST", f"{AGENTS}/{bob}/pause", token="reader"))[0] == 403
        assert (await fleet.ask(1, "POST", "/api/v1/replicas/2/drain", token="reader"))[0] == 403


async def test_what_another_version_answers_spoils_nothing(tmp_path: Path) -> None:
    async def odd(_arguments: bytes) -> AsyncGenerator[bytes]:
        yield b'[{"state":"dreaming"}]'

    async with together(tmp_path) as fleet:
        ada, bob = await two_agents(fleet)
        registry = fleet.members[1].registry
        known = {"overview": odd, "statuses": odd, "status": odd, "events": odd}
        door = Doorkeeper(9, time.monotonic, lambda: server.url)
        server = AdminServer(Gate(Starlette(), Key(TOKEN, registry.uuid), door, known), "127.0.0.1", 0)
        await server.start()
        fleet.roster.replicas[9] = Replica(9, server.url, version="99", host="later", pid=9)
        fleet.roster.agents[agent_id(3)] = 9
        await registry.add_agent(AgentRecord(agent_id(3), "echo", "env:AGENT_SECRET"))
        why = "what replica 9 answers cannot be read here: it is of version 99"
        status, agents = await fleet.ask(1, "GET", AGENTS)
        assert (status, [(one["id"], one["trouble"]) for one in agents]) == (
            200,
            [(ada, ""), (bob, ""), (agent_id(3), "unknown")],
        )
        assert agents[2]["reason"] == why
        status, overview = await fleet.ask(1, "GET", "/api/v1/status")
        assert (status, overview["agents"], overview["replicas"][2]["reason"]) == (
            200,
            {"online": 2, "unknown": 1},
            why,
        )
        async with fleet.session.get(
            f"{fleet.url(1)}/api/v1/events?last=1&follow=false", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as answer:
            assert "event: gap" in await answer.text()
        await server.stop()
