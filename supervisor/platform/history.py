"""The platform's own record of conversations, where it keeps one (PROTOCOL §1): found out by asking, and remembered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError
from supervisor.platform.tokens import TokenClient
from supervisor.protocol import HistoryPage, HistoryRow, InvalidEventError, parse_history
from supervisor.telemetry.logs import get_logger

#: Rows asked for at once; a platform may give fewer and says so.
PAGE_ROWS: Final = 100
#: A platform that had no such endpoint is asked again after so long: it may be updated.
ABSENT_SECONDS: Final = 600.0
#: v1 keeps conversations in the first; in v2 that one is empty and the other has them.
COLLECTIONS: Final = ("messages", "actions")


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
    """Reads conversations back from the platform, for all agents; remembers for each API what it has."""

    def __init__(self, tokens: TokenClient, clock: Clock, *, proxy: str | None = None) -> None:
        self._tokens = tokens
        self._clock = clock
        self._proxy = proxy
        self._apis: dict[str, _Known] = {}
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
        # Page 1 is the oldest and the total is not known before it is asked for.
        for number in range(-(-first.total // first.limit), 1, -1):
            page = await self._page(access, conversation_id, collection, number, first.limit)
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
            page = await self._page(access, conversation_id, collection, 1, PAGE_ROWS)
            if page is None and self._apis[access.api_url].proven == collection:
                # It was there: somebody before the platform answers, as while that restarts.
                raise PlatformError("the history endpoint that was there answered 404")
            if page is None:
                self._note_absent(access.api_url, collection)
            elif page.total:
                self._apis[access.api_url].proven = collection
                return collection, page
        return None

    async def _page(
        self, access: Access, conversation_id: str, collection: str, number: int, limit: int
    ) -> HistoryPage | None:
        answer = await self._tokens.history(
            access.api_url,
            access.token,
            conversation_id,
            page=number,
            limit=limit,
            collection=collection,
            proxy=self._proxy,
        )
        if answer is None:
            return None
        try:
            return parse_history(answer, conversation_id, limit)
        except InvalidEventError as error:
            raise PlatformError(f"the history endpoint answered with something else: {error}") from None

    def _note_absent(self, api_url: str, collection: str) -> None:
        found_before = collection not in self._candidates(api_url)
        self._apis[api_url].absent[collection] = self._clock.monotonic() + ABSENT_SECONDS
        # Others that asked at the same time have said so already.
        if not found_before and not self._candidates(api_url):
            self._log.warning("no_history", api=api_url, reason="what is said while an agent is away is lost")
