"""How a command shows one of several replicas who asks: a mark on each request; the admin token does not travel."""

from __future__ import annotations

import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Final

import msgspec

from supervisor.peers import Key
from supervisor.peers.gate import HELLO, PREFIX, Greeting
from supervisor.peers.pieces import ForgedError, Reader
from supervisor.peers.signing import Question
from supervisor.store import LockInfo

#: A greeting asks for nothing, so whoever is well answers at once; a frozen one keeps nobody from asking the next.
_GREETING_SECONDS: Final = 3.0
_GREETING_BYTES: Final = 1 << 16
_REFUSED: Final = "it refuses the question; has it another SUPERVISOR_ADMIN_TOKEN, or is it not at this address?"


class UnprovenError(ValueError):
    """What answers at the address of a replica has not proved that it is this replica; nothing was asked of it."""


class Signature:
    """Signs requests to one replica, each after the replica has proved who it is.

    The table of replicas may name any address, and another one may be there by the next request
    (:mod:`supervisor.peers.signing`).

    Args:
        token: the admin token.
        replica: with its number, its address and the registry's UUID.
        opener: follows no redirect.
        seconds: the longest that it may take to answer.
    """

    def __init__(self, token: str, replica: LockInfo, opener: urllib.request.OpenerDirector, seconds: float) -> None:
        self._key = Key(token, replica.registry_uuid)
        self._replica = replica
        self._opener = opener
        self._seconds = seconds

    def headers(self, method: str, path: str) -> dict[str, str]:
        """What a request says of whoever sends it.

        Args:
            path: what of the URL is asked for, its query with it.

        Raises:
            UnprovenError: it is not that replica.
            OSError, http.client.HTTPException: it does not answer.
        """
        return self._headers(self._question(self._greet(), method, path))

    def _greet(self) -> int:
        """Have the replica prove who it is; the time by its clock, in milliseconds."""
        if not self._replica.address.startswith(("http://", "https://")):
            raise UnprovenError("it says no address at which it could be asked")
        question = self._question(0, "POST", PREFIX + HELLO)
        url, headers = self._replica.address.rstrip("/") + question.path, self._headers(question)
        made = urllib.request.Request(url, method=question.method, headers=headers)  # noqa: S310  http only
        try:
            with self._opener.open(made, timeout=min(self._seconds, _GREETING_SECONDS)) as answer:
                _, piece = next(Reader(self._key, question).feed(answer.read(_GREETING_BYTES)))
            return msgspec.json.decode(piece, type=Greeting).milliseconds
        except urllib.error.HTTPError as error:
            with error:
                said = _REFUSED if error.code == HTTPStatus.FORBIDDEN else f"it answers {error.code}"
            raise UnprovenError(said) from None
        except (ForgedError, StopIteration, msgspec.MsgspecError):
            raise UnprovenError(
                "what answers there is not this replica, or has another SUPERVISOR_ADMIN_TOKEN"
            ) from None

    def _question(self, milliseconds: int, method: str, path: str) -> Question:
        return Question.new(self._replica.number, self._replica.address, milliseconds, method, path)

    def _headers(self, question: Question) -> dict[str, str]:
        return {"Authorization": question.header(self._key)}
