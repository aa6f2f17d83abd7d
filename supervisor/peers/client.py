"""Asks the other replicas: each proves first who it is, and none is waited for longer than a moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from supervisor.core.clock import Clock
from supervisor.core.errors import AgentNotFoundError, SupervisorError
from supervisor.core.replicas import Replica
from supervisor.net import describe_error
from supervisor.peers.gate import BEAT_SECONDS, HELLO, PREFIX, QUESTION_BYTES, Failure, Greeting
from supervisor.peers.pieces import ForgedError, Kind, Reader
from supervisor.peers.signing import Key, Question

#: A question is answered within so many seconds, greeting included.
ANSWER_SECONDS: Final = 2.0
#: One that was silent is not asked again for so long: whoever asks meanwhile does not wait.
QUIET_SECONDS: Final = 3.0
#: All that an answer may hold.
ANSWER_BYTES: Final = 64 << 20
#: Questions to one replica at once; streams have no bound here, those who follow have one.
AT_ONCE: Final = 8
_BROKEN: Final = (aiohttp.ClientError, OSError, TimeoutError, ForgedError, msgspec.MsgspecError)


class PeerSilentError(SupervisorError):
    """A replica does not answer."""


class NotThereError(SupervisorError):
    """A replica does not run the agent that it was asked about."""


class _RefusedError(Exception):
    """It is not who was meant, or thinks so of us: nothing was done."""

    def __str__(self) -> str:
        return "it refuses the question; has it another SUPERVISOR_ADMIN_TOKEN?"


class _Peer:
    """What is known of one incarnation."""

    def __init__(self) -> None:
        #: Its clock less ours, in milliseconds; None until it has proved itself at its address.
        self.ahead: int | None = None
        self.address = ""
        self.quiet_until = 0.0
        self.why = ""
        self.heard_at: float | None = None
        self.greeting = asyncio.Lock()
        self.places = asyncio.Semaphore(AT_ONCE)


class Peers:
    """The other replicas, as far as they answer.

    Args:
        http: follows no redirect and takes no proxy from the environment.
    """

    def __init__(self, key: Key, http: aiohttp.ClientSession, clock: Clock) -> None:
        self._key = key
        self._http = http
        self._clock = clock
        self._known: dict[int, _Peer] = {}

    def heard_at(self, replica_id: int) -> float | None:
        """When one answered last, in seconds since the epoch; None where it never has."""
        known = self._known.get(replica_id)
        return known.heard_at if known is not None else None

    def forget(self, living: set[int]) -> None:
        """Keep what is known of these alone."""
        self._known = {number: peer for number, peer in self._known.items() if number in living}

    async def ask(
        self, replica: Replica, name: str, arguments: object = None, *, seconds: float = ANSWER_SECONDS
    ) -> list[bytes]:
        """The whole answer of a replica, piece by piece as JSON.

        Raises:
            PeerSilentError: it does not answer in time, or not as itself.
            NotThereError: it does not run the agent.
            SupervisorError: it says why not.
        """
        peer = self._peer(replica)
        try:
            async with asyncio.timeout(seconds), peer.places:
                with contextlib.suppress(_RefusedError):
                    return [piece async for piece in self._pieces(replica, peer, name, arguments)]
                # It may have come to think of us as late: its clock or ours was held up.
                peer.ahead = None
                return [piece async for piece in self._pieces(replica, peer, name, arguments)]
        except (*_BROKEN, _RefusedError) as error:
            raise self._silent(replica, peer, error) from None

    async def follow(self, replica: Replica, name: str, arguments: object = None) -> AsyncGenerator[bytes]:
        """An answer as it comes, for as long as it goes on: at least a piece in three times ``BEAT_SECONDS``.

        Raises:
            PeerSilentError: it cannot be asked, or has gone silent.
            SupervisorError: it says why not.
        """
        peer = self._peer(replica)
        try:
            async with aclosing(self._pieces(replica, peer, name, arguments, endless=True)) as pieces:
                while True:
                    async with asyncio.timeout(3 * BEAT_SECONDS):
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    yield piece
        except (*_BROKEN, _RefusedError) as error:
            peer.ahead = None
            raise self._silent(replica, peer, error) from None

    def _peer(self, replica: Replica) -> _Peer:
        peer = self._known.setdefault(replica.id, _Peer())
        if replica.address != peer.address:
            peer.ahead, peer.address, peer.quiet_until = None, replica.address, 0.0
        if not replica.address:
            raise PeerSilentError(f"{_named(replica)} says no address at which it could be asked")
        if self._clock.monotonic() < peer.quiet_until:
            raise PeerSilentError(peer.why)
        return peer

    def _silent(self, replica: Replica, peer: _Peer, error: Exception) -> PeerSilentError:
        peer.why = f"{_named(replica)} does not answer at {replica.address}: {_described(error, replica)}"
        peer.quiet_until = self._clock.monotonic() + QUIET_SECONDS
        return PeerSilentError(peer.why)

    async def _pieces(
        self, replica: Replica, peer: _Peer, name: str, arguments: object, *, endless: bool = False
    ) -> AsyncGenerator[bytes]:
        async with peer.greeting:
            if peer.ahead is None:
                async with asyncio.timeout(ANSWER_SECONDS):
                    peer.ahead = await self._greet(replica)
        body = msgspec.json.encode(arguments)
        if len(body) > QUESTION_BYTES:
            raise SupervisorError(f"That is more than can be asked of replica {replica.id} at once; ask for less")
        question = _question(replica, self._milliseconds() + peer.ahead, name, body)
        async with aclosing(self._answer(replica, question, body, endless=endless)) as answer:
            async for piece in answer:
                peer.heard_at = self._clock.now()
                yield piece

    async def _greet(self, replica: Replica) -> int:
        """Have a replica prove who it is before anything is asked of it; its clock less ours, in milliseconds."""
        question = _question(replica, 0, HELLO)
        async with aclosing(self._answer(replica, question)) as answer:
            [piece] = [piece async for piece in answer]
        greeting = msgspec.json.decode(piece, type=Greeting)
        if greeting.replica != replica.id:
            raise ForgedError(f"there is replica {greeting.replica} by now")
        return greeting.milliseconds - self._milliseconds()

    async def _answer(
        self, replica: Replica, question: Question, body: bytes = b"", *, endless: bool = False
    ) -> AsyncGenerator[bytes]:
        headers = {"authorization": question.header(self._key), "accept-encoding": "identity"}
        reader, size = Reader(self._key, question), 0
        url = replica.address.rstrip("/") + question.path
        asking = self._http.request(
            question.method, url, data=body, headers=headers, allow_redirects=False, auto_decompress=False
        )
        async with asking as answer:
            if answer.status == 403:
                raise _RefusedError
            if answer.status != 200:
                raise ForgedError(f"it answers {answer.status}")
            async for data in answer.content.iter_any():
                size += len(data)
                if size > ANSWER_BYTES and not endless:
                    raise ForgedError("its answer is too large")
                for kind, payload in reader.feed(data):
                    if kind is Kind.END:
                        return
                    if kind is Kind.FAILED:
                        raise _failure(msgspec.json.decode(payload, type=Failure))
                    yield payload
        raise ForgedError("its answer broke off")

    def _milliseconds(self) -> int:
        return int(self._clock.monotonic() * 1000)


def _question(replica: Replica, milliseconds: int, name: str, body: bytes = b"") -> Question:
    return Question.new(replica.id, replica.address, milliseconds, "POST", PREFIX + name, body)


def _named(replica: Replica) -> str:
    return f"Replica {replica.id} (pid {replica.pid} on {replica.host})"


def _described(error: Exception, replica: Replica) -> str:
    if isinstance(error, ForgedError | _RefusedError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, msgspec.MsgspecError):
        return "its answer is none of this version"
    host = urlsplit(replica.address).hostname or replica.address
    return describe_error(error, host, otherwise="broke off the answer")


def _failure(failure: Failure) -> SupervisorError:
    """The error that a replica met, as one of ours."""
    return (NotThereError if failure.kind == AgentNotFoundError.__name__ else SupervisorError)(failure.text)
