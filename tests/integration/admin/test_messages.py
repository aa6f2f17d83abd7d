"""The admin API's routes about messages, over real sockets and a real journal: nothing that is asked is a 500."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from pydantic import SecretStr
from yarl import URL

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.service import Service
from supervisor.settings import Settings
from tests.support.journaling import AGENT, add, answer

TOKEN = "admin-s3cr3t"
PATH = "/api/v1/messages"
PARAMETERS = (
    *("agent_id", "conversation_id", "state", "older_than_seconds", "newer_than_seconds"),
    *("undelivered", "before_id", "limit"),
)
#: Which agents' messages; what they cannot mean is refused as everywhere where agents are chosen.
SELECTORS = ("label", "agent_state", "handler")
VALUES = (
    *("", "0", "-1", "1", "500", "501", "9223372036854775807", "9223372036854775808", "9" * 5000, "1e400", "1e10"),
    *("1e11", "nan", "inf", "-inf", "NaN", "0x10", "1_000", "\uff11\uff12", "true", "null", "[]", "{}", "dead", "DEAD"),
    *("x" * 201, "\x00", "'; DROP TABLE inbox; --", "%", "%ff", "\u202e", "💥", " 1 ", "+1", "1.5", "\n"),
)


@dataclass
class Api:
    service: Service
    session: aiohttp.ClientSession
    letters: list[JournaledMessage] = field(default_factory=list)

    async def ask(self, method: str, path: str = "", **kwargs: Any) -> tuple[int, Any]:
        async with self.session.request(
            method, URL(f"{self.service.admin_url}{PATH}{path}", encoded=True), **kwargs
        ) as answered:
            return answered.status, await answered.json()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A supervisor without agents, and three dead letters of one that was removed."""
    settings = Settings(
        registry_url=f"sqlite+aiosqlite:///{tmp_path}/supervisor.db", admin_port=0, admin_token=SecretStr(TOKEN)
    )
    service = await Service.start(settings)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        made = Api(service, session)
        for number in range(3):
            row = await add(service.registry.journal, f"k{number}", at=time.time(), claim=True, content="x" * 3000)
            await service.registry.journal.settle(row, MessageState.DEAD, error="a\nb", replies=[answer("Sorry")])
            made.letters.append(row)
        yield made
    await service.stop(grace_seconds=1)


async def test_the_token_guards_messages_too(api: Api) -> None:
    number = api.letters[0].id
    for method, path in (
        ("GET", ""),
        ("GET", f"/{number}"),
        ("POST", f"/{number}/replay"),
        ("POST", f"/{number}/discard"),
        ("POST", f"/{number}/cancel"),
    ):
        status, refused = await api.ask(method, path, headers={"Authorization": "Bearer wrong"})
        assert (status, list(refused)) == (401, ["error"])
    assert (await api.ask("GET"))[1][0]["state"] == "dead"


async def test_contents_are_whole_in_one_message_and_cut_in_lists(api: Api) -> None:
    status, listed = await api.ask("GET")
    assert (status, len(listed)) == (200, 3)
    assert [(len(message["content"]), message["content_chars"]) for message in listed] == [(1000, 3000)] * 3
    assert [message["reason"] for message in listed] == ["b"] * 3
    status, shown = await api.ask("GET", f"/{api.letters[0].id}")
    assert (status, len(shown["content"]), shown["error"]) == (200, 3000, "a\nb")
    assert [(reply["content"], reply["state"]) for reply in shown["replies"]] == [("Sorry", "pending")]


async def test_pages_follow_each_other(api: Api) -> None:
    seen: list[int] = []
    while (page := await api.ask("GET", "", params={"limit": 2} | ({"before_id": seen[-1]} if seen else {})))[1]:
        seen += [message["id"] for message in page[1]]
    assert seen == [letter.id for letter in reversed(api.letters)]


async def test_a_dead_letter_of_a_removed_agent_can_be_discarded_and_not_replayed(api: Api) -> None:
    first, *_ = api.letters
    status, refused = await api.ask("POST", f"/{first.id}/replay")
    assert status == 409
    assert f"agent {AGENT}, which is registered no more" in refused["error"]
    assert (await api.ask("POST", f"/{first.id}/discard"))[1]["state"] == "cancelled"
    assert (await api.ask("POST", f"/{first.id}/discard"))[0] == 409


async def test_what_waits_is_cancelled_once_and_what_has_ended_is_not(api: Api) -> None:
    row = await add(api.service.registry.journal, "waits", at=time.time(), content="hello")
    status, shown = await api.ask("POST", f"/{row.id}/cancel")
    assert (status, shown["state"], shown["reason"]) == (200, "cancelled", "cancelled by an operator")
    status, refused = await api.ask("POST", f"/{row.id}/cancel")
    assert (status, refused["error"]) == (409, f"Message {row.id} is cancelled already")
    dead = api.letters[0].id
    status, refused = await api.ask("POST", f"/{dead}/cancel")
    assert status == 409
    assert refused["error"].endswith(f"end it with: supervisor messages discard {dead}")
    assert (await api.ask("POST", "/999/cancel"))[0] == 404


async def test_whatever_a_filter_holds_is_answered(api: Api) -> None:
    for name, value in itertools.product((*PARAMETERS, *SELECTORS), VALUES):
        status, answered = await api.ask("GET", "", params={name: value})
        assert status in (200, 400 if name in SELECTORS else 422), (name, value, answered)
        assert isinstance(answered, list) if status == 200 else list(answered) == ["error"]
    for raw in ("agent_id=%ff&state=%ff", "conversation_id=%ed%a0%80", "limit=%00", "&&=&agent_id", "a=1;b=2", "%"):
        status, answered = await api.ask("GET", f"?{raw}")
        assert status in (200, 422), (raw, answered)


async def test_whatever_filters_hold_together_is_answered(api: Api) -> None:
    chance = random.Random(17)
    for _ in range(150):
        pairs = [(chance.choice(PARAMETERS), chance.choice(VALUES)) for _ in range(chance.randrange(5))]
        status, answered = await api.ask("GET", "", params=pairs)
        assert status in (200, 422), (pairs, answered)


async def test_whatever_stands_for_a_number_is_answered(api: Api) -> None:
    numbers = [quote(value, safe="") for value in VALUES if value] + ["%ff", "%00", "%ed%a0%80", "1%2f..%2f2", "."]
    for number, (method, action) in itertools.product(
        numbers, (("GET", ""), ("POST", "/replay"), ("POST", "/discard"))
    ):
        status, answered = await api.ask(method, f"/{number}{action}")
        assert status in (200, 307, 404, 405, 409, 422), (number, action, answered)
        assert status == 200 or list(answered) == ["error"]


async def test_a_journal_that_cannot_be_read_is_503(api: Api) -> None:
    with closing(sqlite3.connect(api.service.registry.where, timeout=5)) as database:
        database.execute("ALTER TABLE inbox RENAME TO gone")
    for method, path in (
        ("GET", ""),
        ("GET", "/1"),
        ("POST", "/1/replay"),
        ("POST", "/1/discard"),
        ("POST", "/1/cancel"),
    ):
        status, answered = await api.ask(method, path)
        assert (status, list(answered)) == (503, ["error"])


async def test_the_description_names_every_filter_and_refusal(api: Api) -> None:
    async with api.session.get(api.service.admin_url + "/openapi.json") as answered:
        paths = (await answered.json())["paths"]
    listing = paths[PATH]["get"]
    assert {parameter["name"] for parameter in listing["parameters"]} == {*PARAMETERS, *SELECTORS}
    assert set(paths[PATH + "/{number}"]["get"]["responses"]) == {"200", "401", "403", "404", "422", "503"}
    for action in ("replay", "discard", "cancel"):
        described = paths[f"{PATH}/{{number}}/{action}"]["post"]
        assert set(described["responses"]) == {"200", "401", "403", "404", "409", "422", "503"}
