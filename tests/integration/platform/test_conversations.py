"""The lists of an agent's conversations, in the form that each generation has, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from supervisor.core.errors import PlatformError
from supervisor.platform.conversations import PAGE_ROWS, PlatformConversations
from supervisor.platform.hosts.agent_api import Access
from supervisor.sandbox import Sandbox
from tests.support.flooding import holding
from tests.support.stack import SECRET, agent_id
from tests.support.token_server import answering, answering_json, client, token_server

OWN, OTHER = agent_id(1), agent_id(2)


@dataclass
class Lists:
    """Lists asked of a sandbox on which two agents have conversations."""

    sandbox: Sandbox
    conversations: PlatformConversations
    own: list[str] = field(default_factory=list)
    #: How many questions were told of.
    told: int = 0

    async def ask(self, agent: str = OWN, role: Any = "editor", **how: Any) -> list[str] | None:
        access = Access(self.sandbox.api_url, self.sandbox.tokens.for_agent(agent, role=role))
        rows = await self.conversations.newest_first(access, agent, **how)
        return None if rows is None else [row.id for row in rows]

    def questions(self) -> list[str]:
        """What was asked since this was last asked."""
        asked = [event.fields["query"] for event in self.sandbox.events if event.kind == "conversations_listed"]
        since, self.told = self.told, len(asked)
        return asked[since:]


@asynccontextmanager
async def lists(number: int = 3, **platform: Any) -> AsyncIterator[Lists]:
    async with Sandbox(**platform) as sandbox, client() as made:
        for agent in (OWN, OTHER):
            sandbox.add_agent(agent, SECRET)
        asked = Lists(sandbox, PlatformConversations(made.agent_api, made.clock))
        # v1 has one conversation an agent; more of them are found all the same.
        for person in range(number):
            user = await sandbox.user()
            asked.own.append(await user.open(OWN, another=True))
            await user.open(OTHER, another=True)
            sandbox.conversations[asked.own[-1]].updated_at += person
        asked.own.reverse()
        yield asked


@pytest.mark.parametrize("profile", ["v1", "v2", "v3"])
async def test_each_generation_lists_all_of_the_own_ones_and_nobody_elses(profile: str) -> None:
    async with lists(2 * PAGE_ROWS + 5, profile=profile) as asked:
        assert await asked.ask() == asked.own
        pages = asked.questions()
        assert await asked.ask() == asked.own
        again = asked.questions()
        assert len(again) == 3, "the form that gave rows is asked first"
        assert len(pages) == (4 if profile == "v3" else 3)


@pytest.mark.parametrize("profile", ["v1", "v2", "v3"])
async def test_who_may_not_read_pages_has_the_bare_list(profile: str) -> None:
    async with lists(profile=profile) as asked:
        assert sorted(await asked.ask(role="") or []) == sorted(asked.own)
        asked.questions()
        # That is no advice for the others: the bare list has no end, and tells nothing of what is known already.
        assert await asked.ask() == asked.own
        assert "page=1" in asked.questions()[0]


@pytest.mark.parametrize("profile", ["v2", "v3"])
async def test_reading_stops_at_what_is_known(profile: str) -> None:
    async with lists(3 * PAGE_ROWS, profile=profile) as asked:
        await asked.ask()
        asked.questions()
        newest = asked.sandbox.conversations[asked.own[0]].updated_at
        found = await asked.ask(since=newest - 1.5)
        assert found is not None
        assert asked.own[0] in found
        assert len(found) <= PAGE_ROWS
        assert len(asked.questions()) == 1


async def test_an_empty_answer_is_believed_where_the_form_has_given_rows() -> None:
    async with lists(profile="v2") as asked:
        asked.sandbox.add_agent(agent_id(3), SECRET)
        assert await asked.ask(agent_id(3)) == []
        assert len(asked.questions()) == 3, "nothing is proven yet"
        await asked.ask()
        asked.questions()
        assert await asked.ask(agent_id(3)) == []
        assert len(asked.questions()) == 1
        assert await asked.ask(agent_id(3), expected=True) == []
        assert len(asked.questions()) == 3, "of one that had some it is not"


@pytest.mark.parametrize("role", ["editor", ""], ids=["pages", "the bare list"])
async def test_where_lists_have_been_a_404_is_the_trouble_of_a_moment(role: str) -> None:
    async with lists(profile="v2") as asked:
        await asked.ask(role=role)
        asked.sandbox.faults.rest("conversations", mode="status", status=404)
        for _ in range(2):
            with pytest.raises(PlatformError, match="that were there answered 404"):
                await asked.ask(role=role)
        asked.sandbox.faults.clear()
        assert sorted(await asked.ask(role=role) or []) == sorted(asked.own), "at once"


async def test_a_platform_without_lists_says_so_and_an_ill_one_raises() -> None:
    async with lists(profile="v2") as asked:
        asked.sandbox.faults.rest("conversations", mode="status", status=503)
        with pytest.raises(PlatformError, match="503 for the list"):
            await asked.ask()
        asked.sandbox.faults.rest("conversations", mode="status", status=404)
        assert await asked.ask() is None
        asked.sandbox.faults.clear()
        assert await asked.ask() is None, "for a while it is left alone"


def listed(number: int, **fields: Any) -> dict[str, Any]:
    """A row as the platform's bare list has it."""
    last = {"content": "y" * 60, "createdAt": "2026-01-01T00:00:00.000Z"}
    people = [{"userId": OTHER, "role": "user"}, {"agentId": OWN, "role": "agent"}]
    row = {"_id": f"{number:024x}", "agentId": OWN, "title": "x" * 80, "participants": people, "lastMessage": last}
    return {**row, "createdAt": last["createdAt"], "updatedAt": last["createdAt"], "isDeleted": False, **fields}


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_list_without_pages_is_read_however_long_it_is(wrapped: bool) -> None:
    rows: list[Any] = [listed(number) for number in range(25_000)]
    rows[7:9] = [listed(7, isDeleted=True), 5]
    async with token_server() as server, client() as made:
        pages, bare = answering(404, ""), answering_json(200, {"data": rows} if wrapped else rows)

        server.answer = lambda request: (bare if "/agent/" in request.path else pages)(request)
        conversations = PlatformConversations(made.agent_api, made.clock)
        async with holding(without_collector=True) as hold:
            found = await conversations.newest_first(Access(server.url, "tok"), OWN)
        assert found is not None
        assert len(found) == len(rows) - 2
        assert hold.longest_seconds < 0.1


async def test_a_list_of_more_values_than_are_looked_for_is_an_error_of_that_question() -> None:
    async with token_server() as server, client() as made:
        server.answer = answering(200, "[" + "1," * 1_000_000 + "1]", Content_Type="application/json")
        conversations = PlatformConversations(made.agent_api, made.clock)
        with pytest.raises(PlatformError, match="too many parts"):
            await conversations.newest_first(Access(server.url, "tok"), OWN)


async def test_a_platform_that_gives_the_same_page_for_ever_is_asked_twice_and_that_is_said() -> None:
    rows = [{"_id": f"{number:024x}", "agentId": OWN} for number in range(PAGE_ROWS)]
    async with token_server() as server, client() as made:
        server.answer = answering_json(200, {"data": rows, "total": 10**9})
        conversations = PlatformConversations(made.agent_api, made.clock)
        with structlog.testing.capture_logs() as log:
            found = await conversations.newest_first(Access(server.url, "tok"), OWN)
        assert found is not None
        assert (len(found), len(server.requests)) == (PAGE_ROWS, 2)
    assert [line["event"] for line in log] == ["conversations_cut"]
