"""Plays the outgoing side of every recording against the sandbox and compares what comes back.

Compared are status, body, frame type, namespace, ack id and payload, per socket and in order, and that nothing else
comes. An id of the recording stands for one id of the sandbox throughout; times, sids, tokens and correlation ids only
have to look right.

Meant differences, none of which shows in the recordings' frames:

* as v1 the sandbox declares a second namespace, ``/chat``, and tells both of everyone's presence;
* it stores sends that are in flight together in the order in which they came, unless ``shuffle_sends`` is on;
* it answers at once, where the platform takes 2 to 30 ms, but for the presence (3 ms) and the kick (1 ms);
* it strips the prefix (`/dev/aiwm` unless set) from ``path`` in error bodies, as the proxy does that is not recorded.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.sandbox import Profile, Sandbox
from supervisor.sandbox.world.tokens import TokenMint
from tests.sandbox.conftest import RawSocket

RECORDINGS = Path(__file__).parent.parent / "recordings"

AGENT = "a" * 20 + "0001"
USER = "c" * 24
ORGANISATION = "b" * 24

_FRAME = re.compile(r"(?P<type>[0-6]{1,2})(?P<namespace>/[^,]*,)?(?P<ack>[0-9]*)(?P<json>.*)", re.DOTALL)
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_MADE_UP = re.compile(r"([0-9a-f])\1{23}|(ab){12}|a{20}.{4}")
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SID = re.compile(r"[A-Za-z0-9_-]{20}")
_JWT = re.compile(r"ey[\w-]+\.[\w-]+\.[\w-]+")


class Same:
    """Compares the sandbox's values with the recording's, and keeps which id stands for which."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}

    def check(self, recorded: Any, actual: Any, at: str) -> None:
        if isinstance(recorded, dict):
            assert isinstance(actual, dict), f"{at}: {actual!r}"
            assert recorded.keys() == actual.keys(), f"{at}: fields {set(recorded) ^ set(actual)} differ"
            for key in recorded:
                self.check(recorded[key], actual[key], f"{at}.{key}")
        elif isinstance(recorded, list):
            assert isinstance(actual, list), f"{at}: {actual!r}"
            assert len(recorded) == len(actual), f"{at}: {len(actual)} items instead of {len(recorded)}"
            for index, (left, right) in enumerate(zip(recorded, actual, strict=True)):
                self.check(left, right, f"{at}[{index}]")
        else:
            assert type(recorded) is type(actual), f"{at}: {actual!r} instead of {recorded!r}"
            if isinstance(recorded, str):
                self._check_text(recorded, actual, at)
            else:
                assert recorded == actual, at

    def _check_text(self, recorded: str, actual: str, at: str) -> None:
        if at.endswith(".sid"):
            assert _SID.fullmatch(actual), at
        elif is_server_made(recorded):
            assert is_server_made(actual), f"{at}: {actual!r}"
            assert self.ids.setdefault(recorded, actual) == actual, f"{at}: another id than before"
        elif _TIME.fullmatch(recorded) or _UUID.fullmatch(recorded):
            pattern = _TIME if _TIME.fullmatch(recorded) else _UUID
            assert pattern.fullmatch(actual), f"{at}: {actual!r}"
        else:
            assert self.translate(recorded) == _JWT.sub("<jwt>", actual), at

    def translate(self, text: str) -> str:
        """``text`` of the recording with the sandbox's ids in place of the recorded ones."""
        return _OBJECT_ID.sub(lambda match: self.ids.get(match[0], match[0]), text)

    def check_frame(self, recorded: str, actual: str, at: str) -> None:
        left, right = _FRAME.fullmatch(recorded), _FRAME.fullmatch(actual)
        assert left is not None
        assert right is not None, f"{at}: {actual!r}"
        for part in ("type", "namespace", "ack"):
            assert left[part] == right[part], f"{at}: {part} of {actual[:200]}"
        assert bool(left["json"]) == bool(right["json"]), f"{at}: {actual!r}"
        if left["json"]:
            self.check(json.loads(left["json"]), json.loads(right["json"]), at)


def is_server_made(text: str) -> bool:
    return _OBJECT_ID.fullmatch(text) is not None and _MADE_UP.fullmatch(text) is None


def recording(profile: Profile, name: str) -> list[dict[str, Any]]:
    path = RECORDINGS / f"{profile}-{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Replay:
    """The recorded clients, played against one sandbox."""

    def __init__(self, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.same = Same()
        self._http = http
        self.tokens = {
            "agent": sandbox.tokens.for_agent(AGENT),
            "user": sandbox.tokens.for_user(USER),
            "signed with another secret": TokenMint(organisation_id=ORGANISATION).issue(
                "agent", AGENT, role="editor", expires_in_seconds=3600
            ),
            "expired": sandbox.tokens.for_agent(AGENT, expires_in_seconds=-1),
        }
        self.sockets: dict[str, RawSocket] = {}
        self.frames_compared = 0

    async def rest(self, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            method, _, path = line["request"].partition(" ")
            headers = {} if "without token" in line["note"] else {"Authorization": f"Bearer {self.tokens['agent']}"}
            url = f"{self.sandbox.api_url}{self.same.translate(path)}"
            async with self._http.request(method, url, json=line["body"], headers=headers) as answer:
                body = await answer.json()
                assert answer.status == line["status"], line["note"]
            self.same.check(line["answer"], body, line["note"])

    async def frames(self, lines: Iterable[dict[str, Any]]) -> None:
        note = "start"
        for number, line in enumerate(lines):
            at = f"{note} (line {number + 1})"
            note = line.get("note", note)
            if line.get("dir") == "out":
                frame = self.same.translate(line["frame"])
                token = self.tokens.get(note) or self.tokens[line["who"]]
                await self.sockets[line["who"]].send(frame.replace("<jwt>", token))
            elif line.get("dir") == "in":
                if line["who"] not in self.sockets:
                    self.sockets[line["who"]] = await self._open()
                self.same.check_frame(line["frame"], await self.sockets[line["who"]].frame(), at)
                self.frames_compared += 1
            elif line.get("dir") == "closed":
                await self.close(line["who"])

    async def close(self, who: str) -> None:
        """Close a socket, on which nothing but what was recorded may have come."""
        socket = self.sockets.pop(who)
        assert await socket.barrier() == [], f"more came to the {who} than was recorded"
        await socket.ws.close()

    async def _open(self) -> RawSocket:
        url = f"{self.sandbox.base_url}/socket.io/?EIO=4&transport=websocket"
        return RawSocket(await self._http.ws_connect(url), "/")


@pytest.fixture(params=["v1", "v2"])
async def replay(request: pytest.FixtureRequest) -> AsyncIterator[Replay]:
    async with Sandbox(profile=request.param, rest_prefix="", organisation_id=ORGANISATION) as sandbox:
        settings = {"claude_model": "claude-3-5-haiku-latest"}
        prefix = "a" * 20
        sandbox.add_agent(AGENT, "s3cret", name="Agent 1", role="editor", settings=settings)
        sandbox.add_agent(f"{prefix}f002", "s3cret", status="suspended")
        sandbox.add_agent(f"{prefix}f003", None)
        sandbox.add_agent(f"{prefix}f004", "s3cret", name="Agent 61444", status="inactive", settings=settings)
        sandbox.add_agent(f"{prefix}f005", "s3cret", status="deleted")
        async with aiohttp.ClientSession() as http:
            yield Replay(sandbox, http)


def _split(lines: list[dict[str, Any]], note: str) -> Iterator[list[dict[str, Any]]]:
    index = next(number for number, line in enumerate(lines) if line.get("note") == note)
    yield lines[:index]
    yield lines[index:]


async def test_sandbox_answers_as_recorded(replay: Replay) -> None:
    """All four files of a version are one run, in the order that the recordings' README gives."""
    profile = replay.sandbox.config.profile
    before_history, history = _split(recording(profile, "rest"), "history")
    conversation, farewell = _split(recording(profile, "conversation"), "user leaves")
    *refused_sends, user_closes = recording(profile, "refused-sends")
    assert user_closes["dir"] == "closed"

    await replay.rest(before_history)
    await replay.frames(conversation)
    await replay.frames(refused_sends)
    await replay.rest(history)
    await replay.frames([user_closes])
    await replay.frames(farewell)
    await replay.frames(recording(profile, "refused-connects"))

    recorded = [
        line
        for name in ("conversation", "refused-sends", "refused-connects")
        for line in recording(profile, name)
        if line.get("dir") == "in"
    ]
    assert replay.frames_compared == len(recorded)


async def test_a_replayed_difference_is_noticed(replay: Replay) -> None:
    """The comparison itself: a changed word, a missing field, another id and another ack id all fail."""
    same = Same()
    frame = '43/ws,5[{"success":true,"messageId":"6b039dc60088485af0480f92","error":"x"}]'
    same.check_frame(frame, frame, "first")
    for other in (
        frame.replace("x", "y"),
        frame.replace(',"error":"x"', ""),
        frame.replace("6b039dc6", "6b039dc7"),
        frame.replace(",5", ",6"),
        frame.replace("/ws", "/chat"),
        frame.replace("true", '"true"'),
    ):
        with pytest.raises(AssertionError):
            same.check_frame(frame, other, "changed")
