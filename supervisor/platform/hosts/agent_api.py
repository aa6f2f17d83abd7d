"""What agents ask of the platform's HTTP API with their tokens, through the host's gate; no error holds the token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from supervisor.core.errors import PlatformError, Verdict
from supervisor.net.trouble import mask_secret
from supervisor.platform.hosts.api import ABSENT, Answer, PlatformApi, endpoint_url
from supervisor.platform.hosts.api_gate import ApiGate, NotAskedError
from supervisor.platform.hosts.gates import Gates
from supervisor.protocol.decoding import UnreadableError, decode_json, split_rows

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Access:
    """Where an agent asks, and with what: the API's URL and the agent's token, empty while it has none."""

    api_url: str
    token: str = field(repr=False)


class AnswerTooLargeError(PlatformError):
    """The answer is larger than what is read of one."""


@lru_cache(maxsize=256)
def _host(api_url: str) -> str:
    """Asked several times for each agent that comes online, and few are there."""
    return urlsplit(api_url).hostname or ""


class AgentApi:
    """Asks for agents.

    Args:
        api: makes the requests.
        gates: the bounds of all hosts.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
    """

    def __init__(self, api: PlatformApi, gates: Gates, *, proxy: str | None = None) -> None:
        self._api = api
        self._gates = gates
        self._proxy = proxy

    def gate(self, access: Access) -> ApiGate:
        """The bound of the host that is asked."""
        return self._gates.of(_host(access.api_url)).api

    async def ask(
        self,
        access: Access,
        *parts: str,
        limit_bytes: int,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | aiohttp.FormData | None = None,
        at_leisure: bool = True,
    ) -> Answer:
        """``GET {api}/{parts}``, or ``POST`` where there is a body, which goes as JSON or as a form.

        Args:
            limit_bytes: how much of the answer is read; the body of a larger one is None.
            at_leisure: nobody waits for it, see :meth:`ApiGate.ask`.

        Raises:
            PlatformError: there was no answer, or the host is ill; the token never occurs in its reason.
        """
        failure: PlatformError | None = None
        try:
            url, options = _request(access, parts, query, body)

            async def request() -> Answer:
                return await self._api.request(
                    "GET" if body is None else "POST", url, limit_bytes=limit_bytes, proxy=self._proxy, **options
                )

            return await self._gates.of(url.host or "").api.ask(request, at_leisure=at_leisure)
        except NotAskedError:
            raise
        except PlatformError as error:
            failure = without_token(error, access.token)
        # Outside the except block: the first error may hold the request with its headers.
        raise failure


def _request(
    access: Access,
    parts: tuple[str, ...],
    query: Mapping[str, str | int] | None,
    body: Mapping[str, Any] | aiohttp.FormData | None,
) -> tuple[URL, dict[str, Any]]:
    url = endpoint_url(access.api_url, *parts)
    if query:
        url = url.with_query({name: str(value) for name, value in query.items()})
    headers = {"Authorization": f"Bearer {access.token}"}
    if body is None:
        return url, {"headers": headers}
    if isinstance(body, aiohttp.FormData):
        return url, {"headers": headers, "data": body}
    return url, {"headers": headers | {"Content-Type": "application/json"}, "data": msgspec.json.encode(body)}


def without_token(error: PlatformError, token: str) -> PlatformError:
    """The same error, its reason without the token that was asked with."""
    return PlatformError(mask_secret(error.reason, token), error.verdict, retry_after_seconds=error.retry_after_seconds)


def unsuccessful(answer: Answer, to_what: str) -> PlatformError:
    """The error for a status that is no success: REJECT where asking again is pointless, else RETRY."""
    lasting = 400 <= answer.status < 500 and answer.status not in (402, 408, 425, 429)
    return PlatformError(
        f"{answer.host} answered {answer.status} {to_what}",
        Verdict.REJECT if lasting else Verdict.RETRY,
        retry_after_seconds=answer.retry_after(),
    )


def read_json(answer: Answer, what: str) -> Any:
    """The JSON of an answer; None where the platform has no such endpoint (404, 405, 410).

    Args:
        what: was asked for, in words, for errors.

    Raises:
        AnswerTooLargeError: it is more than was to be read.
        PlatformError: it is no such answer.
    """
    body = _checked(answer, what)
    return None if body is None else _read(decode_json, body, answer.host, what)


def read_rows(answer: Answer, what: str) -> list[bytes] | None:
    """The rows of an answer that is a list of any length, as :func:`~supervisor.protocol.decoding.split_rows` does.

    Args, raises: as :func:`read_json`.
    """
    body = _checked(answer, what)
    return None if body is None else _read(split_rows, body, answer.host, what)


def _checked(answer: Answer, what: str) -> bytes | None:
    """The body of an answer that is one; None where there is no such endpoint."""
    if answer.status in ABSENT:
        return None
    if answer.status == 401:
        raise PlatformError(f"{answer.host} refused the token for {what}", Verdict.REAUTHENTICATE)
    if not 200 <= answer.status < 300:
        raise unsuccessful(answer, f"for {what}")
    if answer.body is None:
        raise AnswerTooLargeError(f"the answer of {answer.host} to {what} is too large")
    return answer.body


def _read(decode: Callable[[bytes], _T], body: bytes, host: str, what: str) -> _T:
    try:
        found = decode(body)
    except UnreadableError:
        found = None
    if found is None:
        raise PlatformError(f"{host} answered {what} with something that is not JSON, or of too many parts")
    return found
