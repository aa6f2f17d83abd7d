"""What a new connection makes good: conversations that are joined again, up to a limit, and what was missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import ConnectError
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.backfill import Backfill, Reach
from supervisor.messages.catch_up import CatchUp
from supervisor.messages.gap import Gap
from supervisor.messages.participation import Participation
from supervisor.messages.recall import Recall
from supervisor.messages.roster import Listing, Roster
from supervisor.platform.connection import Connection
from supervisor.platform.connector import BESIDE_SECONDS, Caller, Connector
from supervisor.platform.endpoint import Endpoint
from tests.support.messaging import no_upload
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_platform import HOME
from tests.support.paper_play import Play, play
from tests.support.virtual import EPOCH

HANDLERS = {"diary": DIARY}
OTHERS = [f"{number:024x}" for number in range(1, 6)]


class Desk:
    """An agent's way back, with a limit that the test sets and connections that the test opens."""

    def __init__(self, script: Play, paper: PaperAgent, rejoin_limit: int, *, timeout_seconds: float = 15.0) -> None:
        scope, shared = paper.agent.profile.scope, script.shared
        history = AgentHistory(scope, shared.history, paper.agent.profile.access)
        self.inbox = paper.pipeline.inbox
        self.events: list[str] = []
        self.namespaces: tuple[str, ...] = ("/chat",)
        recall = Recall(history, has_commands=lambda: True)
        self.participation = Participation(scope, self.inbox.conversations, recall, 5.0, no_upload)
        backfill = Backfill(history, self.inbox, Reach(3600.0, 10))
        gap = Gap(scope, lambda: paper.agent.record.created_at, 3600.0)
        listing = Listing(shared.conversations, paper.agent.profile.access, 300.0)
        roster = Roster(scope, self.inbox, backfill, gap, listing, 5.0)
        self.catch_up = CatchUp(scope, self.participation, backfill, roster, 5.0, rejoin_limit=rejoin_limit)
        self._paper = paper
        self._connector = Connector(
            shared.transport,
            shared.gates,
            shared.paths,
            shared.facts,
            Caller(scope.agent_id, self._receive),
            timeout_seconds=timeout_seconds,
        )

    def _receive(self, _connection: Connection, event: str, _payload: object) -> None:
        self.events.append(event)

    async def register(self, opened: Callable[[Connection], None]) -> Connection:
        endpoint = Endpoint("wss://paper.example/chat", self.namespaces, "/socket.io", "auth", None)
        first = self.participation.connection
        grants = self._paper.configuration.grant
        return await self._connector.open(endpoint, grants, first=first, on_connected=opened)

    async def connect(self) -> Connection:
        """Connect, and use the connection."""
        connection = await self.catch_up.connect(self.register)
        self.participation.use(connection)
        return connection

    async def disconnect(self) -> None:
        """Close the connection that is in use."""
        assert self.participation.connection is not None
        await self.participation.connection.close()
        self.participation.use(None)
        self.catch_up.lost()


def joins(script: Play) -> list[str]:
    """Conversations that the platform was asked to let the agent into, in order."""
    return [said["conversationId"] for event, said in script.platform.asked if event == "conversation:join"]


def test_what_the_platform_puts_the_agent_into_needs_no_join(tmp_path: Path) -> None:
    async def connects(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            desk = Desk(script, paper, 512)
            connection = await script.loop.complete(desk.connect())
            assert (joins(script), list(desk.inbox.conversations)) == ([], [HOME])
            assert connection.member_since(HOME) is not None
            await script.loop.complete(desk.disconnect())

    play(tmp_path, connects, handlers=HANDLERS)


def test_past_the_limit_the_most_recent_ones_are_joined_first_and_one_line_names_the_number(tmp_path: Path) -> None:
    async def connects(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            desk = Desk(script, paper, 2)
            for conversation in OTHERS:
                await script.loop.complete(desk.inbox.conversations.joined(conversation))
            for _ in range(2):
                script.platform.asked.clear()
                connection = await script.loop.complete(desk.connect())
                assert set(joins(script)) == set(OTHERS[-2:])
                await script.loop.advance(2)
                assert joins(script)[2:] == [HOME, *OTHERS[-3::-1]][-3:]
                assert connection.joined.is_set()
                await script.loop.complete(desk.disconnect())
            [line] = script.logged("too_many_conversations")
            assert (line["known"], line["joined"]) == (len(OTHERS), 2)

    play(tmp_path, connects, handlers=HANDLERS)


def test_what_is_joined_late_while_another_process_answers_is_asked_about_once_none_does(tmp_path: Path) -> None:
    async def stands_by(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            desk = Desk(script, paper, 1)
            for conversation in OTHERS[:2]:
                await script.loop.complete(desk.inbox.conversations.joined(conversation))
            await script.loop.advance(120)
            script.platform.rest.add(OTHERS[0], "before it was joined", EPOCH + script.loop.time())
            connection = await script.loop.complete(desk.catch_up.stand_by(desk.register))
            await script.loop.advance(5)
            assert connection.joined.is_set()
            assert (script.platform.rest.asked["history"], script.fleet.inbox()) == (0, []), "it is another's to answer"
            desk.catch_up.go_on(connection, missed=False)
            await script.loop.advance(5)
            assert [row.body for row in script.fleet.inbox()] == ["before it was joined"]
            assert script.platform.rest.asked["history"] == 1, "of the others nothing can be missing"
            await script.loop.complete(connection.close())

    play(tmp_path, stands_by, handlers=HANDLERS)


@pytest.mark.parametrize("says", [False, True], ids=["silence", "a message"])
def test_a_way_that_leads_nowhere_does_not_spoil_the_next_one(tmp_path: Path, says: bool) -> None:
    """Beside the first socket one way takes the agent and handles nothing, the next one is right."""

    async def moves_on(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            desk = Desk(script, paper, 512)
            desk.namespaces = ("/ws/chat", "/")
            first = await script.loop.complete(desk.connect())
            await script.loop.complete(desk.inbox.conversations.joined(OTHERS[0]))
            script.platform.connects.append("alias")
            connecting = asyncio.ensure_future(desk.connect())
            await script.loop.advance(1)
            if says:
                # It brings what people say: that it serves the agent does not follow.
                assert script.say("hello", conversation=HOME)
            await script.loop.advance(BESIDE_SECONDS + 30)
            second = await script.loop.complete(_result(connecting))
            assert (second.namespace, second.connected, first.connected) == ("/", True, True)
            assert second.member_since(OTHERS[0]) is not None
            await script.loop.complete(first.close())
            await script.loop.complete(desk.disconnect())

    play(tmp_path, moves_on, handlers=HANDLERS)


def test_joins_that_end_with_a_way_that_leads_nowhere_are_not_those_of_the_next_one(tmp_path: Path) -> None:
    async def moves_on(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            desk = Desk(script, paper, 512, timeout_seconds=3.0)
            desk.namespaces = ("/ws/chat", "/")
            first = await script.loop.complete(desk.connect())
            others = [f"{number:024x}" for number in range(1, 31)]
            for conversation in others:
                await script.loop.complete(desk.inbox.conversations.joined(conversation))
            script.platform.connects.append("alias")
            connecting = asyncio.ensure_future(desk.connect())
            await script.loop.advance(0.1)
            await script.loop.complete(first.close())
            second = await script.loop.complete(_result(connecting))
            assert (second.namespace, second.connected) == ("/", True)
            assert all(second.member_since(conversation) is not None for conversation in others)
            await script.loop.complete(desk.disconnect())

    play(tmp_path, moves_on, handlers=HANDLERS)


async def _result(task: asyncio.Future[Connection]) -> Connection:
    return await task


@pytest.mark.parametrize("fate", ["refuse", "kick", "lose"])
def test_what_waits_waits_for_the_connection_that_comes_about(tmp_path: Path, fate: str) -> None:
    async def fails(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            desk = Desk(script, paper, 512)
            connection = await script.loop.complete(desk.connect())
            await script.loop.complete(desk.disconnect())
            script.platform.connects.append(fate)
            with pytest.raises(ConnectError):
                await script.loop.complete(desk.catch_up.connect(desk.register))
            said: dict[str, Any] = {"conversationId": HOME, "role": "user", "content": "hello"}
            desk.inbox.receive(said, connection)
            await script.loop.advance(60)
            assert script.fleet.inbox() == []
            await script.loop.complete(desk.connect())
            await script.loop.advance(1)
            assert [row.body for row in script.fleet.inbox()] == ["hello"]
            await script.loop.complete(desk.disconnect())
            assert script.platform.sockets == []

    play(tmp_path, fails, handlers=HANDLERS)


@pytest.mark.parametrize("lists", [True, False])
def test_what_was_said_at_home_in_an_agents_first_moments_is_found_by_its_next_life(
    tmp_path: Path, lists: bool
) -> None:
    async def dies_young(script: Play) -> None:
        script.platform.conversations = [HOME] if lists else None
        script.platform.connects.append("refuse")
        await script.loop.advance(5)
        await script.add()
        # Before it is in: of all that it hears nothing is written.
        script.fleet.refuse("all")
        await script.loop.advance(30)
        said = script.platform.rest.add(HOME, "hello", EPOCH + script.loop.time())
        assert script.say("hello", _id=said["_id"])
        await script.loop.advance(0.1)
        await script.loop.complete(script.fleet.crash())
        await script.loop.advance(60)
        assert script.answers == ["Echo: hello"]

    play(tmp_path, dies_young)
