"""A person at the platform: in one conversation with one agent, over the socket that people's clients use."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from supervisor.core.clock import SystemClock
from supervisor.core.errors import AckTimeoutError, ConnectError, SupervisorError
from supervisor.net import Session
from supervisor.platform.endpoint import Endpoint, Search
from supervisor.platform.transport import Socket, Transport, choose_wire
from supervisor.protocol.text import clean_text, one_line

_T = TypeVar("_T")

#: For the connect, and for what the platform is asked.
_PLATFORM_SECONDS: Final = 15.0
#: An answer is over once so long nothing has come after it …
_QUIET_SECONDS: Final = 0.75
#: … unless the agent showed that it goes on, by typing or a step on the way to more: agents type every four seconds.
_WORKING_SECONDS: Final = 6.0
#: One that stopped typing so long ago and said nothing has nothing to say: another attempt would have begun by then.
_NOTHING_SECONDS: Final = 3.0
#: Of an attachment or a source; a data: URL may be long.
_BESIDE_CHARS: Final = 500
#: Types of messages that are whole answers, and no steps on the way to one.
_ANSWER_TYPES: Final = (None, "text", "message", "error")


class UnansweredError(SupervisorError):
    """What was said has no answer, or an apology for one; the conversation goes on."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where and as whom somebody meets an agent.

    Args:
        token: the person's.
        conversation_id: the conversation to join; None: the platform is asked for the one with the agent.
        ca_file: a PEM file of authorities to trust beside the system's.
    """

    endpoint: Endpoint
    agent_id: str
    token: str = field(repr=False)
    conversation_id: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A message of an agent's as people's clients get it, without what could move a cursor.

    Args:
        failed: it is an apology or a notice (v1, v2).
        beside: what came along with it and what it rests on: attachments and sources, a line each.
    """

    content: str
    type: str | None
    role: str
    failed: bool
    beside: tuple[str, ...] = ()

    @property
    def is_answer(self) -> bool:
        """Whether it is an answer, and no step on the way to one."""
        return self.role != "tool" and self.type in _ANSWER_TYPES


class Person:
    """A conversation with an agent. Made by :meth:`meet`."""

    def __init__(self, on_said: Callable[[Said], object]) -> None:
        self._on_said = on_said
        self._socket: Socket | None = None
        self._conversation_id: object = None
        # What the agent says and shows, each with how long more may take after it; None: it is no answer.
        self._signs: asyncio.Queue[tuple[Said | None, float]] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def meet(cls, meeting: Meeting, on_said: Callable[[Said], object]) -> AsyncIterator[Self]:
        """Connect and enter the conversation.

        Args:
            on_said: called with all that the agent says there.

        Raises:
            SupervisorError: the platform cannot be reached, or refuses; says why.
        """
        person = cls(on_said)
        session = await Session.open(ca_file=meeting.ca_file)
        transport = Transport(session, make_wire=choose_wire("auto"), clock=SystemClock())
        try:
            person._socket = await person._connect(transport, meeting)
            await person._enter(meeting)
            yield person
        finally:
            await transport.close()
            await session.close()

    async def _connect(self, transport: Transport, meeting: Meeting) -> Socket:
        search = Search(meeting.endpoint, None)
        for way in search.ways():
            try:
                return await transport.open(
                    meeting.endpoint.target(way),
                    meeting.token,
                    agent_id=meeting.agent_id,
                    on_event=self._receive,
                    timeout=_PLATFORM_SECONDS,
                )
            except ConnectError as error:
                if search.is_over(way, error):
                    raise
        raise search.failure()

    async def _enter(self, meeting: Meeting) -> None:
        if (known := meeting.conversation_id) is not None:
            await self._call("conversation:join", {"conversationId": known})
            self._conversation_id = known
            return
        try:
            answer = await self._call("agent:connect", {"agentId": meeting.agent_id})
        except AckTimeoutError:
            hint = "give the conversation's id: --conversation ID"
            raise SupervisorError(f"The platform takes nobody to an agent by its id; {hint}") from None
        self._conversation_id = answer.get("conversationId")

    async def _call(self, event: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the platform answers to an event.

        Raises:
            SupervisorError: it refuses, does not answer, or is gone.
        """
        if self._socket is None:
            raise SupervisorError("There is no connection")
        answer = await self._socket.call(event, payload, _PLATFORM_SECONDS)
        if not isinstance(answer, Mapping) or not answer.get("success"):
            why = answer.get("error") if isinstance(answer, Mapping) else None
            raise SupervisorError(f"The platform refuses {event}: {why or 'it does not say why'}")
        return answer

    async def ask(self, text: str, seconds: float) -> Said:
        """Say something and wait for the first answer, or the first part of one.

        Raises:
            UnansweredError: nothing came in time, or the agent is done and said nothing; says which.
            SupervisorError: it was not taken, or the connection was lost.
        """
        while not self._signs.empty():
            self._signs.get_nowait()
        # What a terminal gives may not be text.
        content = text.encode("utf-8", "replace").decode()
        said = {"conversationId": self._conversation_id, "role": "user", "content": content}
        await self._call("message:send", said)
        assert self._socket is not None  # noqa: S101  for the type checker
        answer = asyncio.ensure_future(self._first_answer())
        over: list[asyncio.Future[Any]] = [answer, self._socket.closed]
        await asyncio.wait(over, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        if self._socket.closed.done():
            raise SupervisorError(f"The connection was lost: {self._socket.closed.result()}")
        raise UnansweredError(f"No answer came within {seconds:g} s")

    async def _first_answer(self) -> Said:
        patience: float | None = None
        while True:
            try:
                said, more = await asyncio.wait_for(self._signs.get(), patience)
            except TimeoutError:
                raise UnansweredError("(the handler sent no answer: one that returns None says nothing)") from None
            if said is not None:
                return said
            patience = _NOTHING_SECONDS if more == _QUIET_SECONDS else None

    async def hear_out(self, seconds: float) -> list[Said]:
        """The further parts of an answer, until the agent is quiet and shows no sign of more; for so long at most."""
        parts, patience = [], _QUIET_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    said, patience = await asyncio.wait_for(self._signs.get(), patience)
                    if said is not None:
                        parts.append(said)
        return parts

    def _receive(self, event: str, payload: object) -> None:
        if not isinstance(payload, Mapping) or payload.get("conversationId") != self._conversation_id:
            return
        if event == "agent:typing":
            self._signs.put_nowait((None, _WORKING_SECONDS if payload.get("isTyping") else _QUIET_SECONDS))
        elif event == "message:new" and payload.get("role") != "user":
            self._hear(payload)

    def _hear(self, payload: Mapping[str, Any]) -> None:
        said = Said(
            content=clean_text(str(payload.get("content") or ""))[0],
            type=one_line(payload.get("type")),
            role=one_line(payload.get("role")) or "",
            failed=bool(payload.get("error")),
            beside=(*_attachments(payload), *_sources(payload)),
        )
        self._on_said(said)
        self._signs.put_nowait((said, _QUIET_SECONDS) if said.is_answer else (None, _WORKING_SECONDS))


def _attachments(payload: Mapping[str, Any]) -> Iterator[str]:
    """A line for each attachment of a message; the generations differ in what one is."""
    for one in _each(payload.get("attachments")):
        known = one if isinstance(one, Mapping) else {"url": one}
        name, url = known.get("filename") or known.get("name"), known.get("url")
        yield one_line(f"attachment: {' '.join(str(part) for part in (name, url) if part)}", _BESIDE_CHARS) or ""


def _sources(payload: Mapping[str, Any]) -> Iterator[str]:
    """A line for each source of a message."""
    for one in _each(payload.get("sources")):
        known = one if isinstance(one, Mapping) else {}
        said = (known.get(part) for part in ("label", "content", "url"))
        yield one_line(f"source: {': '.join(str(part) for part in said if part)}", _BESIDE_CHARS) or ""


def _each(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


class Background:
    """An event loop in a thread of its own, so that the socket lives while its person thinks about what to type."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What ``work`` comes to, or raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
