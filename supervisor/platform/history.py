"""The platform's own record of conversations, where it keeps one: found out by asking, and remembered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError
from supervisor.platform.history_walk import PARTS, HistoryWalk
from supervisor.platform.hosts.agent_api import Access, AgentApi, AnswerTooLargeError, read_json
from supervisor.protocol import InvalidEventError, parse_history
from supervisor.protocol.history import HistoryPage, HistoryRow, parse_last
from supervisor.telemetry.logs import get_logger

#: Rows asked for at once; a platform may give fewer and says so.
PAGE_ROWS: Final = 100
#: A platform that had no such endpoint is asked again after so long: it may be updated.
ABSENT_SECONDS: Final = 600.0
#: v1 keeps conversations in the first; in v2 the first is empty and the second has them.
COLLECTIONS: Final = ("messages", "actions")
#: Pages that are asked for in one go beside the first, unless somebody wants more.
MOST_PAGES: Final = 100
#: A hundred messages of up to 1 MB each may not fit: then fewer are asked for at once.
PAGE_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class _Known:
    """What is known of one API: collections it lacks, until when that is believed, and the one that had rows.

    Attributes:
        has_history: whether it ever answered, be it with no rows.
    """

    absent: dict[str, float] = field(default_factory=dict)
    proven: str | None = None
    has_history: bool = False


class PlatformHistory:
    """Reads conversations back from the platform, for all agents; remembers for each API what it has.

    Args:
        api: asks with the agent's token.
        clock: the time after which an API that had no history is asked again.
        on_cut: told each time that a bound leaves older rows out.
    """

    def __init__(self, api: AgentApi, clock: Clock, *, on_cut: Callable[[], None] = lambda: None) -> None:
        self._api = api
        self._clock = clock
        self._on_cut = on_cut
        self._apis: dict[str, _Known] = {}
        self._log = get_logger("supervisor.history")

    def may_have(self, api_url: str) -> bool:
        """Whether asking may be of use: False once the platform was found to have no history."""
        return bool(self._candidates(api_url))

    async def backwards(
        self, access: Access, conversation_id: str, *, most_pages: int = MOST_PAGES, at_leisure: bool = False
    ) -> AsyncGenerator[tuple[HistoryRow, ...], None]:
        """The pages of a conversation from the newest to the oldest, each oldest first; none where there is no history.

        Args:
            most_pages: how many are asked for. What is left out is said.
            at_leisure: nobody waits for them.

        Raises:
            PlatformError: the platform did not answer as it should.
        """
        found = await self._first_page(access, conversation_id, at_leisure)
        if found is None:
            return
        collection, first = found
        # Page 1 is the oldest, and the total is not known before it is asked for.
        walk = HistoryWalk(first, most_pages)
        while (number := walk.page) is not None:
            try:
                page = await self.page(
                    access, conversation_id, collection, number=number, limit=walk.limit, at_leisure=at_leisure
                )
            except AnswerTooLargeError:
                walk.too_large()
                continue
            if page is None:
                raise _gone()
            yield walk.came(page)
        if walk.cut or walk.skipped:
            reason = walk.cut or f"{walk.skipped} rows are too large"
            self._log.warning("history_cut", conversation=conversation_id, reason=reason)
            self._on_cut()
        yield walk.rest()

    def _candidates(self, api_url: str) -> list[str]:
        known = self._apis.setdefault(api_url, _Known())
        now = self._clock.monotonic()
        names = [name for name in COLLECTIONS if known.absent.get(name, 0.0) <= now]
        return sorted(names, key=lambda name: name != known.proven)

    async def _first_page(
        self, access: Access, conversation_id: str, at_leisure: bool
    ) -> tuple[str, HistoryPage] | None:
        gone: list[str] = []
        candidates = self._candidates(access.api_url)
        known = self._apis[access.api_url]
        for collection in candidates:
            page = await self._oldest(access, conversation_id, collection, at_leisure)
            if page is None:
                gone.append(collection)
            elif page.total:
                known.proven = collection
                return collection, page
        if known.proven in gone or (known.has_history and gone and gone == candidates):
            # It was there: somebody before the platform answers, as while the platform restarts.
            raise _gone()
        for collection in gone:
            self._mark_absent(access.api_url, collection)
        return None

    async def _oldest(
        self, access: Access, conversation_id: str, collection: str, at_leisure: bool
    ) -> HistoryPage | None:
        """Page 1, of as many rows as fit; None where there is no such endpoint."""
        limit = PAGE_ROWS
        while True:
            try:
                return await self.page(access, conversation_id, collection, limit=limit, at_leisure=at_leisure)
            except AnswerTooLargeError:
                if limit == 1:
                    raise
                limit //= PARTS

    async def page(
        self,
        access: Access,
        conversation_id: str,
        collection: str,
        *,
        number: int = 1,
        limit: int = PAGE_ROWS,
        at_leisure: bool = False,
    ) -> HistoryPage | None:
        """One page of a conversation; None where the platform has no such endpoint (404).

        Args:
            access: where to ask, and the agent's token.
            conversation_id: whose history.
            collection: one of :data:`COLLECTIONS`.
            number: the page, from 1, which is the oldest.
            limit: rows on a page.
            at_leisure: nobody waits for it.

        Raises:
            AnswerTooLargeError: fewer rows may fit.
            PlatformError: anything else came; the token never occurs in its reason.
        """
        query = {"page": number, "limit": limit}
        answer = await self._ask(access, [collection, "conversation", conversation_id], query, at_leisure)
        return None if answer is None else _read(parse_history, answer, conversation_id, limit)

    async def last(
        self, access: Access, conversation_id: str, count: int, *, at_leisure: bool = False
    ) -> HistoryPage | None:
        """The newest rows of a conversation, oldest first, with one request where the platform has that endpoint.

        Args:
            at_leisure: nobody waits for them.

        Returns:
            None where it has not, or the rows are too large for one answer: :meth:`backwards` may find them.

        Raises:
            PlatformError: the platform did not answer as it should.
        """
        empty: HistoryPage | None = None
        for collection in self._candidates(access.api_url):
            name = f"{collection}/last"
            known = self._apis[access.api_url]
            if known.absent.get(name, 0.0) > self._clock.monotonic():
                continue
            try:
                answer = await self._ask(
                    access, [collection, "conversation", conversation_id, "last", str(count)], {}, at_leisure
                )
            except AnswerTooLargeError:
                return None
            if answer is None:
                known.absent[name] = self._clock.monotonic() + ABSENT_SECONDS
                continue
            page = _read(parse_last, answer, conversation_id)
            if page.total:
                known.proven = collection
                return page
            empty = page
        return empty

    async def _ask(self, access: Access, parts: Sequence[str], query: Mapping[str, str | int], at_leisure: bool) -> Any:
        answer = await self._api.ask(access, *parts, query=query, limit_bytes=PAGE_BYTES, at_leisure=at_leisure)
        payload = read_json(answer, "the history")
        if payload is not None:
            self._apis.setdefault(access.api_url, _Known()).has_history = True
        return payload

    def _mark_absent(self, api_url: str, collection: str) -> None:
        absent_before = collection not in self._candidates(api_url)
        self._apis[api_url].absent[collection] = self._clock.monotonic() + ABSENT_SECONDS
        # Others that asked at the same time have logged the warning already.
        if not absent_before and not self._candidates(api_url):
            self._log.warning("no_history", api=api_url, reason="what is said while an agent is away is lost")


def _gone() -> PlatformError:
    return PlatformError("the history endpoint that was there answered 404")


def _read(parse: Callable[..., HistoryPage], answer: object, *given: Any) -> HistoryPage:
    try:
        return parse(answer, *given)
    except InvalidEventError as error:
        raise PlatformError(f"the history endpoint answered with something else: {error}") from None
