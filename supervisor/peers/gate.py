"""Answers the other replicas' questions on the admin port, and knows commands by their marks there.

What else is asked goes by untouched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.core.errors import SupervisorError
from supervisor.peers.pieces import Kind, Writer
from supervisor.peers.signing import Doorkeeper, Key, Question, digest
from supervisor.telemetry.logs import get_logger

PREFIX: Final = "/replicas/"
#: The question that proves who answers, and asks for nothing else.
HELLO: Final = "hello"
#: What a question may bring with it: ten thousand agents by their ids.
QUESTION_BYTES: Final = 1 << 20
#: Questions under way at once, streams among them.
MOST: Final = 64
#: An answer without an end tells at least so often that it goes on.
BEAT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 2.0
#: Who takes nothing of an answer for so long is left.
_SEND_SECONDS: Final = 10.0
#: What answers a question, from its arguments in JSON: pieces of JSON.
Answer = Callable[[bytes], AsyncGenerator[bytes]]
_SIGNED: Final = "signed"
_STRANGER: Final = (
    "This is signed with no key of this registry, or for another replica: see SUPERVISOR_ADMIN_TOKEN here and there, "
    "and SUPERVISOR_ADVERTISE_URL there"
)
_NOT_NOW: Final = "This was asked before, or is on its way for too long by the clock here; ask again"
_log = get_logger(__name__)


class Greeting(msgspec.Struct):
    """The answer to the first question: which incarnation this is, what its clock says, and what it can be asked."""

    replica: int
    milliseconds: int
    questions: list[str]


class Failure(msgspec.Struct):
    """Why a question has no answer: the kind of error, and its words."""

    kind: str
    text: str


class Gate:
    """ASGI middleware before everything else.

    Args:
        app: what answers everybody else.
        doorkeeper: knows which incarnation this is, and which questions it has had.
        answers: what can be asked.
    """

    def __init__(self, app: ASGIApp, key: Key, doorkeeper: Doorkeeper, answers: Mapping[str, Answer]) -> None:
        self._app = app
        self._key = key
        self._doorkeeper = doorkeeper
        self._answers = {**answers, HELLO: self._greet}
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not (scope["path"].startswith(PREFIX) or _is_marked(scope)):
            await self._app(scope, receive, send)
            return
        door = self._doorkeeper
        question = Question.read(_authorization(scope), scope["method"], _path(scope), self._key, door.address())
        if question is None or question.target != door.me:
            await _refused(HTTPStatus.FORBIDDEN, _STRANGER)(scope, receive, send)
        elif not self._admits(question):
            await _refused(HTTPStatus.FORBIDDEN, _NOT_NOW)(scope, receive, send)
        elif not scope["path"].startswith(PREFIX):
            await self._let_by(question, scope, receive, send)
        elif self._under_way >= MOST:
            await _refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy")(scope, receive, send)
        else:
            await self._reply(question, scope, receive, send)

    async def _let_by(self, question: Question, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what a command asks, as from somebody who has the admin token."""
        body = await _body(receive)
        if body is None or digest(body) != question.body_digest:
            await _refused(HTTPStatus.FORBIDDEN, _STRANGER)(scope, receive, send)
            return
        scope.setdefault("state", {})[_SIGNED] = True
        await self._app(scope, replay(body, receive), send)

    async def _reply(self, question: Question, scope: Scope, receive: Receive, send: Send) -> None:
        self._under_way += 1
        try:
            body = await _body(receive)
            if body is None:
                response: ASGIApp = _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too large or too slow")
            elif digest(body) != question.body_digest:
                response = _refused(HTTPStatus.FORBIDDEN, _STRANGER)
            else:
                response = StreamingResponse(self._lines(question, body), media_type="text/plain")
            await response(scope, receive, _bounded(send))
        except TimeoutError:
            # Returning unfinished makes the server close the connection.
            _log.info("replica_does_not_read")
        finally:
            self._under_way -= 1

    def _admits(self, question: Question) -> bool:
        # The first question brings no time yet, and its answer is worth nothing to whoever asks it again.
        return question.path == PREFIX + HELLO or self._doorkeeper.lets_in(question)

    async def _lines(self, question: Question, body: bytes) -> AsyncGenerator[bytes]:
        writer = Writer(self._key, question)
        name = question.path.removeprefix(PREFIX)
        try:
            async with aclosing(self._answers.get(name, self._unknown)(body)) as pieces:
                async for piece in pieces:
                    yield writer.line(Kind.PIECE, piece)
            yield writer.line(Kind.END)
        except SupervisorError as error:
            yield writer.line(Kind.FAILED, msgspec.json.encode(Failure(type(error).__name__, str(error))))
        except Exception as error:  # noqa: BLE001  whoever asked is told, and the log has it
            _log.error("replica_question_failed", question=name, exc_info=error)
            text = f"Replica {question.target} met an internal error; see its log"
            yield writer.line(Kind.FAILED, msgspec.json.encode(Failure(SupervisorError.__name__, text)))

    async def _greet(self, _arguments: bytes) -> AsyncGenerator[bytes]:
        known = sorted(self._answers)
        yield msgspec.json.encode(Greeting(self._doorkeeper.me, self._doorkeeper.milliseconds, known))

    def _unknown(self, _arguments: bytes) -> AsyncGenerator[bytes]:
        raise SupervisorError(f"Replica {self._doorkeeper.me} is of another version and does not know the question")


def is_signed(scope: Scope) -> bool:
    """Whether a gate has let a request by, for whoever sent it has the key."""
    return bool(scope.get("state", {}).get(_SIGNED))


def replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, and then what else comes."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _is_marked(scope: Scope) -> bool:
    return _authorization(scope).startswith("Replica ")


def _path(scope: Scope) -> str:
    # As it was sent: that is what is signed.
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else str(path)


def _authorization(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name.lower() == b"authorization":
            return str(value.decode("latin-1"))
    return ""


async def _body(receive: Receive) -> bytes | None:
    """What came with a request; None where it is too much, or comes too slowly."""
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > QUESTION_BYTES:
                    return None
                if message["type"] != "http.request" or not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        return None


def _bounded(send: Send) -> Send:
    async def bounded(message: Message) -> None:
        async with asyncio.timeout(_SEND_SECONDS):
            await send(message)

    return bounded


def _refused(status: HTTPStatus, why: str) -> ASGIApp:
    return JSONResponse({"error": why}, status, {"connection": "close", "cache-control": "no-store"})
