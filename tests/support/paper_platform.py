"""A platform made of paper, at the seam of the transport: a token endpoint and sockets that misbehave on cue.

It stands where :class:`supervisor.platform.transport.Transport` stands, above the wire. What it does is what
docs/protocol.md says of the first two generations; ``keeps_ids`` tells them apart.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

from supervisor.core.errors import AckTimeoutError, ConnectError, ConnectionLostError, PlatformError, Verdict
from supervisor.core.turns import Turns
from supervisor.platform.transport import Target
from supervisor.platform.transport.wires.face import Noise
from tests.support.paper_rest import PaperRest

HOME: Final = "c" * 23 + "0"
_LOST: Final = object()

#: What may become of a token request; ``suspended`` too, anything else is a status.
TOKEN_FATES: Final = ("ok", "401", "404", "500", "429", "hang", "html", "empty")
#: What may become of an attempt to connect.
CONNECT_FATES: Final = ("ok", "refuse", "kick", "hang", "namespace", "mute", "late", "lose", "kick_after")
#: What may become of a ``message:send``.
SEND_FATES: Final = (
    *("ok", "slow", "lost_ack", "lost_all", "vanish", "refuse", "forbid", "cut_before", "cut_after", "no_conversation"),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of an agent that the platform has."""

    id: str
    conversation: str
    content: str
    type: str | None


class PaperSocket:
    """What :class:`supervisor.platform.transport.Socket` is to a connection."""

    def __init__(
        self, platform: PaperPlatform, agent_id: str, token: str, on_event: Callable[[str, Any], None]
    ) -> None:
        self._platform = platform
        self.agent_id = agent_id
        self.token = token
        self._on_event = on_event
        self._acks: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.sid = "paper"
        self.max_payload = 1_000_000
        self.noise = Noise(b"", b"")
        #: Whether it handles events; one that does not delivers all the same.
        self.handles = True
        self.dropped_emits = 0

    @property
    def connected(self) -> bool:
        return not self.closed.done()

    def deliver(self, event: str, payload: Mapping[str, Any]) -> bool:
        """An event from the platform; whether it came in."""
        if self.connected:
            self._on_event(event, dict(payload))
        return self.connected

    def lose(self, reason: str) -> None:
        """The connection is gone."""
        if self.connected:
            self.closed.set_result(reason)
            for waiting in self._acks.values():
                if not waiting.done():
                    waiting.set_result(_LOST)
            self._platform.sockets.remove(self)

    def request(
        self, event: str, payload: Mapping[str, Any] | bytes, on_answer: Callable[[object, PlatformError | None], None]
    ) -> int:
        if not self.connected:
            raise ConnectionLostError(f"the connection was lost before {event} was sent")
        loop = asyncio.get_running_loop()
        ack: asyncio.Future[Any] = loop.create_future()
        self._asked += 1
        self._acks[self._asked] = ack

        def answered(ack: asyncio.Future[Any]) -> None:
            if not ack.cancelled():
                lost = ConnectionLostError(f"the connection was lost before {event} was acknowledged")
                on_answer(*((None, lost) if ack.result() is _LOST else (ack.result(), None)))

        ack.add_done_callback(answered)
        heard: dict[str, Any] = json.loads(payload) if isinstance(payload, bytes) else dict(payload)
        loop.call_soon(self._platform.hear, self, event, heard, ack)
        return self._asked

    def forget(self, ack_id: int) -> None:
        if (ack := self._acks.pop(ack_id, None)) is not None:
            ack.cancel()

    async def call(self, event: str, payload: Mapping[str, Any] | bytes, timeout: float) -> object:
        answered: asyncio.Future[tuple[object, PlatformError | None]] = asyncio.get_running_loop().create_future()
        ack_id = self.request(event, payload, lambda *said: None if answered.done() else answered.set_result(said))
        try:
            async with asyncio.timeout(timeout):
                answer, error = await answered
        except TimeoutError:
            raise AckTimeoutError(f"{event} was not acknowledged within {timeout:g} s") from None
        finally:
            self.forget(ack_id)
        if error is not None:
            raise error
        return answer

    def emit(self, event: str, payload: Mapping[str, Any] | bytes) -> None:
        if self.connected and event == "message:send" and isinstance(payload, dict):
            self._platform.notices.append(payload["conversationId"])
        if self.connected and event == "conversation:join" and isinstance(payload, dict):
            self._platform.asked.append((event, payload))

    async def close(self) -> None:
        self.lose("closed by us")
        await asyncio.sleep(0)

    def abort(self) -> None:
        self.lose("closed by us")

    async def settle(self, timeout: float) -> None:
        """Nothing of the library is behind it."""


@dataclass
class PaperPlatform:
    """See the module.

    Attributes:
        tokens, connects, sends: what becomes of the next ones; the ``standing_`` fate of those after that.
        token_seconds: how long a token is good for.
        deaf_to: events that are not acknowledged.
        ack_seconds: how long the acknowledgement of any other takes.
        heartbeat: what heartbeats are answered with; None: they are events that it does not know.
        conversations: those that it lists, of whichever agent asks; None: it has no such list.
        rest: what it answers to other questions over HTTP.
        refused_joins: the error that a join of a conversation is answered with.
        asked: events of agents that are no messages, with their payloads.
        broken: what no supervisor may do, in the order in which it was done.
    """

    keeps_ids: bool = True
    token_seconds: int = 86_400
    tokens: deque[str] = field(default_factory=deque)
    connects: deque[str] = field(default_factory=deque)
    sends: deque[str] = field(default_factory=deque)
    standing_token: str = "ok"
    standing_connect: str = "ok"
    sockets: list[PaperSocket] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    fates: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notices: list[str] = field(default_factory=list)
    expires: dict[str, float] = field(default_factory=dict)
    most_sockets: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    deaf_to: set[str] = field(default_factory=set)
    ack_seconds: float = 0.0
    heartbeat: dict[str, Any] | None = None
    conversations: list[str] | None = None
    rest: PaperRest = field(default_factory=PaperRest)
    refused_joins: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def heal(self) -> None:
        """From now on all is well."""
        self.standing_token = self.standing_connect = "ok"
        for fates in (self.tokens, self.connects, self.sends):
            fates.clear()

    @asynccontextmanager
    async def request(self, method: str, url: Any, **_: Any) -> AsyncIterator[Any]:
        """As :meth:`aiohttp.ClientSession.request`."""
        await asyncio.sleep(0)
        if method != "POST":
            found = await self.rest.answer(url.path, url.query, self.conversations)
            yield _answer(*(found or (404, {"statusCode": 404, "message": "Cannot GET"})))
            return
        fate = self.tokens.popleft() if self.tokens else self.standing_token
        if fate == "hang":
            await asyncio.get_running_loop().create_future()
        if fate == "html":
            yield _answer(200, b"<html>maintenance</html>")
        elif fate == "empty":
            yield _answer(201, {})
        elif fate == "ok":
            yield _answer(201, self._mint())
        elif fate == "suspended":
            yield _answer(401, {"statusCode": 401, "message": "Agent is suspended"})
        else:
            message = "Agent with ID a not found" if fate == "404" else "no"
            headers = {"Retry-After": "7"} if fate == "429" else {}
            yield _answer(int(fate), {"statusCode": int(fate), "message": message}, headers)

    def mint(self) -> str:
        """A token that nobody asked for."""
        return str(self._mint()["accessToken"])

    def _mint(self) -> dict[str, Any]:
        token = f"token{len(self.expires)}"
        self.expires[token] = asyncio.get_running_loop().time() + self.token_seconds
        return {"accessToken": token, "expiresIn": self.token_seconds, "tokenType": "bearer", "settings": {}}

    async def open(
        self, target: Target, token: str, *, agent_id: str, on_event: Callable[[str, Any], None], timeout: float
    ) -> PaperSocket:
        """As :meth:`supervisor.platform.transport.Transport.open`."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        if self.expires[token] <= loop.time():
            self.broken.append(f"connected with {token}, which has expired")
        fate = self.connects.popleft() if self.connects else self.standing_connect
        if fate == "refuse":
            raise ConnectError("connection refused")
        if fate == "hang":
            await asyncio.sleep(timeout)
            raise ConnectError("no OPEN in time")
        if fate == "namespace":
            raise ConnectError("Invalid namespace", Verdict.REJECT, invalid_namespace=True)
        if fate == "kick":
            raise ConnectError("disconnected right after it connected", Verdict.REAUTHENTICATE, kicked=True)
        socket = PaperSocket(self, agent_id, token, on_event)
        self.sockets.append(socket)
        open_now = sum(one.agent_id == agent_id for one in self.sockets)
        self.most_sockets[agent_id] = max(self.most_sockets[agent_id], open_now)
        match fate:
            case "alias":
                socket.handles = False
            case "lose":
                loop.call_soon(socket.lose, "transport error")
            case "kick_after":
                loop.call_soon(socket.lose, "server disconnect")
            case "ok" | "late":
                loop.call_later(3.0 if fate == "late" else 0.0, self._register, socket)
        return socket

    def _register(self, socket: PaperSocket) -> None:
        where = HOME if self.keeps_ids else None
        presence = {"type": "agent", "agentId": socket.agent_id, "conversationId": where, "status": "online"}
        for one in list(self.sockets):
            if socket.connected and one.agent_id == socket.agent_id:
                one.deliver("presence:update", presence)

    def cut(self, reason: str = "transport error", agent_id: str | None = None) -> None:
        """Every connection is lost."""
        for socket in list(self.sockets):
            if agent_id in (None, socket.agent_id):
                socket.lose(reason)

    def say(self, agent_id: str, message: Mapping[str, Any]) -> bool:
        """A person says something to an agent; whether any of its sockets brought it."""
        theirs = [socket for socket in self.sockets if socket.agent_id == agent_id]
        # Every socket of the agent brings it.
        return [socket.deliver("message:new", message) for socket in theirs].count(True) > 0

    def hear(self, socket: PaperSocket, event: str, said: dict[str, Any], ack: asyncio.Future[Any]) -> None:
        """An agent's event arrived, unless the connection was lost before."""
        if not socket.connected or not socket.handles:
            return
        if event != "message:send":
            self.asked.append((event, said))
            if event in self.deaf_to:
                return
            if event == "agent:heartbeat":
                if self.heartbeat is not None:
                    self._acknowledge(socket, ack, self.heartbeat)
                return
            conversation = said["conversationId"]
            answer: dict[str, Any] = {"success": True, "conversationId": conversation, "onlineUsers": []}
            if event == "conversation:join" and conversation in self.refused_joins:
                answer = {"success": False, "error": self.refused_joins[conversation]}
            self._acknowledge(socket, ack, answer)
            return
        fate = self.sends.popleft() if self.sends else "ok"
        self.fates[said["_id"]].append(fate)
        match fate:
            case "cut_before":
                socket.lose("transport error")
            case "vanish":
                pass
            case "refuse" | "forbid" | "no_conversation":
                errors = {"refuse": "Database is down", "forbid": "You do not have permission to create."}
                error = errors.get(fate, "No conversation found. Join one first")
                self._acknowledge(socket, ack, {"success": False, "error": error})
            case _:
                self._store(socket, said, ack, fate)

    def _store(self, socket: PaperSocket, said: dict[str, Any], ack: asyncio.Future[Any], fate: str) -> None:
        number = said["_id"] if self.keeps_ids else f"{len(self.stored):024x}"
        if any(one.id == number for one in self.stored):
            answer: dict[str, Any] = {"success": False, "error": f"E11000 duplicate key error: {number}"}
        else:
            self.stored.append(Stored(number, said["conversationId"], said["content"], said.get("type")))
            answer = {"success": True, "message": {"_id": number}}
            if fate in ("ok", "slow", "lost_ack"):
                socket.deliver("message:new", {**said, "_id": number})
                socket.deliver("message:sent", {"success": True, "messageId": number})
        if fate == "cut_after":
            socket.lose("transport error")
        elif fate == "slow":
            asyncio.get_running_loop().call_later(3.0, self._acknowledge, socket, ack, answer)
        elif fate == "ok":
            self._acknowledge(socket, ack, answer)

    def _acknowledge(self, socket: PaperSocket, ack: asyncio.Future[Any], answer: dict[str, Any]) -> None:
        if self.ack_seconds:
            asyncio.get_running_loop().call_later(self.ack_seconds, self._answer, socket, ack, answer)
        else:
            self._answer(socket, ack, answer)

    def _answer(self, socket: PaperSocket, ack: asyncio.Future[Any], answer: dict[str, Any]) -> None:
        if socket.connected and not ack.done():
            ack.set_result(answer)


class PaperSession:
    """One supervisor's way to the platform, as its ``Session``; a process that died has none."""

    def __init__(self, platform: PaperPlatform) -> None:
        self.platform = platform
        self.alive = True
        self.turns = Turns()

    @property
    def http(self) -> PaperSession:
        return self

    @asynccontextmanager
    async def request(self, method: str, url: Any, **options: Any) -> AsyncIterator[Any]:
        if not self.alive:
            raise ConnectionResetError
        async with self.platform.request(method, url, **options) as answer:
            yield answer

    async def close(self) -> None:
        """Nothing is behind it."""


class PaperTransport:
    """What :class:`supervisor.platform.transport.Transport` is to a supervisor."""

    def __init__(self, session: PaperSession) -> None:
        self._session = session

    async def open(self, target: Target, token: str, **options: Any) -> PaperSocket:
        if not self._session.alive:
            raise ConnectError("connection refused")
        return await self._session.platform.open(target, token, **options)

    async def close(self) -> None:
        """Every connection has been closed by its runner."""


def _answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield raw

    content = SimpleNamespace(iter_any=chunks)
    return SimpleNamespace(status=status, headers=dict(headers or {}), content=content, close=lambda: None)
