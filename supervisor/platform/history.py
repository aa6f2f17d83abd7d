"""The platform's own record of conversations, where it keeps one: found out by asking, and remembered."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, Verdict
from supervisor.net import mask_secret
from supervisor.platform.hosts.api import Answer, PlatformApi, endpoint_url
from supervisor.protocol import InvalidEventError, parse_history
from supervisor.protocol.history import HistoryPage, HistoryRow
from supervisor.telemetry.logs import get_logger

#: Rows asked for at once; a platform may give fewer and says so.
PAGE_ROWS: Final = 100
#: A platform that had no such endpoint is asked again after so long: it may be updated.
ABSENT_SECONDS: Final = 600.0
#: v1 keeps conversations in the first; in v2 the first is empty and the second has them.
COLLECTIONS: Final = ("messages", "actions")
#: A page holds up to a hundred messages of up to 1 MB; more than this is not worth its memory.
_PAGE_BYTES: Final = 16 * 1024 * 1024
#: Pages asked for at once and host.
_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Access:
    """Where an agent asks, and with what: the API's URL and the agent's token, empty while it has none."""

    api_url: str
    token: str = field(repr=False)


@dataclass(slots=True)
class _Known:
    """What is known of one API: collections it lacks, until when that is believed, and the one that had rows."""

    absent: dict[str, float] = field(default_factory=dict)
    proven: str | None = None


class PlatformHistory:
    """Reads conversations back from the platform, for all agents; remembers for each API what it has.

    Args:
        api: makes the requests.
        clock: the time after which an API that had no history is asked again.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
    """

    def __init__(self, api: PlatformApi, clock: Clock, *, proxy: str | None = None) -> None:
        self._api = api
        self._clock = clock
        self._proxy = proxy
        self._apis: dict[str, _Known] = {}
        # For each host its own, so that one that hangs holds up no other.
        self._places: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_AT_ONCE))
        self._log = get_logger("supervisor.history")

    def may_have(self, api_url: str) -> bool:
        """Whether asking may be of use: False once the platform was found to have no history."""
        return bool(self._candidates(api_url))

    async def backwards(self, access: Access, conversation_id: str) -> AsyncGenerator[tuple[HistoryRow, ...], None]:
        """The pages of a conversation from the newest to the oldest, each oldest first; none where there is no history.

        Raises:
            PlatformError: the platform did not answer as it should.
        """
        found = await self._first_page(access, conversation_id)
        if found is None:
            return
        collection, first = found
        # Page 1 is the oldest, and the total is not known before it is asked for.
        for number in range(-(-first.total // first.limit), 1, -1):
            page = await self.page(access, conversation_id, collection, number=number, limit=first.limit)
            if page is None:
                break
            yield page.rows
        yield first.rows

    def _candidates(self, api_url: str) -> list[str]:
        known = self._apis.setdefault(api_url, _Known())
        now = self._clock.monotonic()
        names = [name for name in COLLECTIONS if known.absent.get(name, 0.0) <= now]
        return sorted(names, key=lambda name: name != known.proven)

    async def _first_page(self, access: Access, conversation_id: str) -> tuple[str, HistoryPage] | None:
        for collection in self._candidates(access.api_url):
            page = await self.page(access, conversation_id, collection)
            if page is None and self._apis[access.api_url].proven == collection:
                # The collection was there: somebody before the platform answers, as while the platform restarts.
                raise PlatformError("the history endpoint that was there answered 404")
            if page is None:
                self._mark_absent(access.api_url, collection)
            elif page.total:
                self._apis[access.api_url].proven = collection
                return collection, page
        return None

    async def page(
        self, access: Access, conversation_id: str, collection: str, *, number: int = 1, limit: int = PAGE_ROWS
    ) -> HistoryPage | None:
        """One page of a conversation; None where the platform has no such endpoint (404).

        Args:
            access: where to ask, and the agent's token.
            conversation_id: whose history.
            collection: one of :data:`COLLECTIONS`.
            number: the page, from 1, which is the oldest.
            limit: rows on a page.

        Raises:
            PlatformError: anything else came; the token never occurs in its reason.
        """
        answer: Any = None
        failure: PlatformError | None = None
        try:
            answer = await self._ask(access, conversation_id, collection, number, limit)
        except PlatformError as error:
            failure = PlatformError(
                mask_secret(error.reason, access.token), error.verdict, retry_after_seconds=error.retry_after_seconds
            )
        if failure is not None:
            raise failure
        if answer is None:
            return None
        try:
            return parse_history(answer, conversation_id, limit)
        except InvalidEventError as error:
            raise PlatformError(f"the history endpoint answered with something else: {error}") from None

    async def _ask(self, access: Access, conversation_id: str, collection: str, number: int, limit: int) -> Any:
        url = endpoint_url(access.api_url, collection, "conversation", conversation_id)
        url = url.with_query(page=number, limit=limit)
        async with self._places[url.host or ""]:
            headers = {"Authorization": f"Bearer {access.token}"}
            answer = await self._api.request("GET", url, limit_bytes=_PAGE_BYTES, proxy=self._proxy, headers=headers)
        return None if answer.status == 404 else _read(answer)

    def _mark_absent(self, api_url: str, collection: str) -> None:
        absent_before = collection not in self._candidates(api_url)
        self._apis[api_url].absent[collection] = self._clock.monotonic() + ABSENT_SECONDS
        # Others that asked at the same time have logged the warning already.
        if not absent_before and not self._candidates(api_url):
            self._log.warning("no_history", api=api_url, reason="what is said while an agent is away is lost")


def _read(answer: Answer) -> Any:
    """The JSON of an answer.

    Raises:
        PlatformError: it is no history.
    """
    if answer.status == 401:
        raise PlatformError(f"{answer.host} refused the token for the history", Verdict.REAUTHENTICATE)
    if not 200 <= answer.status < 300:
        lasting = 400 <= answer.status < 500 and answer.status not in (408, 425, 429)
        raise PlatformError(
            f"{answer.host} answered {answer.status} for the history",
            Verdict.REJECT if lasting else Verdict.RETRY,
            retry_after_seconds=answer.retry_after(),
        )
    payload = answer.json()
    if payload is None:
        raise PlatformError(f"{answer.host} answered the history with something that is not JSON, or too large")
    return payload
