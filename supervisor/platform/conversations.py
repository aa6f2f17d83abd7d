"""The platform's lists of an agent's conversations: three forms, found out by asking, and remembered for each API.

docs/protocol.md#7-findings, 2: without them people who began a conversation while the agent was away get no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.hosts.agent_api import Access, AgentApi, read_json, read_rows
from supervisor.platform.hosts.api import Answer
from supervisor.platform.hosts.api_gate import ApiGate
from supervisor.protocol import InvalidEventError
from supervisor.protocol.conversations import ConversationPage, ListedConversation, parse_conversations
from supervisor.protocol.decoding import UnreadableError, decode_json
from supervisor.telemetry.logs import get_logger

#: Pages of v1 and v2; pages of v3, which answers v2's form with nothing, as v2 answers v3's with everybody's; and the
#: bare list of one agent's, which all have and which has no limit.
FILTERED, PLAIN, WHOLE = "filtered", "plain", "whole"
FORMS: Final = (FILTERED, PLAIN, WHOLE)
PAGE_ROWS: Final = 100
#: Of one agent; more than this is no agent's, and a list without an end.
MAX_ROWS: Final = 20_000
#: Full pages in a row without a conversation in use, after which no more are asked for.
MAX_BARREN: Final = 3
#: How long a form is left alone that the platform did not have.
ABSENT_SECONDS: Final = 600.0
#: How long a form that gave rows is believed where it gives none.
PROVEN_SECONDS: Final = 3600.0
_PAGE_BYTES: Final = 16 * 1024 * 1024
#: Rows of a list without pages that are read in one turn: some 4 ms.
_TURN_ROWS: Final = 250
_WHAT: Final = "the list of conversations"


class _FormRefusedError(Exception):
    """This agent may not read a form; another may."""


@dataclass(slots=True)
class _Known:
    """What is known of one API: until when a form is believed to be absent, and until when one is believed.

    Attributes:
        has_lists: whether it ever answered, in whichever form.
    """

    absent: dict[str, float] = field(default_factory=dict)
    proven: str | None = None
    proven_until: float = 0.0
    has_lists: bool = False


class PlatformConversations:
    """Lists conversations, for all agents.

    Args:
        api: asks with the agent's token.
        clock: the time after which a form that was absent is tried again.
    """

    def __init__(self, api: AgentApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._apis: dict[str, _Known] = {}
        self._log = get_logger("supervisor.conversations")

    def gate(self, access: Access) -> ApiGate:
        """The bound of the host that is asked, which says how often."""
        return self._api.gate(access)

    async def newest_first(
        self, access: Access, agent_id: str, *, since: float | None = None, expected: bool = False
    ) -> list[ListedConversation] | None:
        """An agent's active conversations, the one that changed last first.

        Args:
            since: those that changed before (seconds since the epoch) may be left out.
            expected: the agent is known to have some: an empty answer of the form that worked before is not believed.

        Returns:
            None where the platform has no such list.

        Raises:
            PlatformError: it did not answer as it should.
        """
        known = self._apis.setdefault(access.api_url, _Known())
        answered = refused = False
        for form in self._candidates(known):
            try:
                found = await self._all(access, agent_id, form, since)
            except _FormRefusedError:
                refused = True
                continue
            if found is None:
                continue
            answered = known.has_lists = True
            if found:
                if not refused:
                    # What is left to an agent of few rights is no advice for the others.
                    known.proven, known.proven_until = form, self._clock.monotonic() + PROVEN_SECONDS
                return sorted(found.values(), key=lambda row: row.updated_at or 0.0, reverse=True)
            if form == known.proven and (since is not None or not expected):
                return []
        if known.has_lists and not (answered or refused):
            # Whatever is before the platform answers so while it restarts.
            known.absent.clear()
            raise PlatformError("the lists of conversations that were there answered 404")
        return [] if answered else None

    def _candidates(self, known: _Known) -> list[str]:
        now = self._clock.monotonic()
        if known.proven_until <= now:
            known.proven = None
        forms = [form for form in FORMS if known.absent.get(form, 0.0) <= now]
        return sorted(forms, key=lambda form: form != known.proven)

    async def _all(
        self, access: Access, agent_id: str, form: str, since: float | None
    ) -> dict[str, ListedConversation] | None:
        """The rows that a form gives, by id; None where it is no form of this platform's."""
        found: dict[str, ListedConversation] = {}
        barren = 0
        for number in range(1, MAX_ROWS // PAGE_ROWS + 1):
            page = await self._page(access, agent_id, form, number, since)
            if page is None or page.foreign:
                # Everybody's rows: this platform does not understand the form.
                return None
            # Rows that change meanwhile move to the front, and others from page to page: seen twice, never missed.
            new = {row.id: row for row in page.rows if row.id not in found}
            found |= new
            barren = 0 if new else barren + 1
            if barren == MAX_BARREN or (page.rows and not new):
                # The platform gives the same page whichever is asked for.
                break
            if form == WHOLE or page.length < PAGE_ROWS or _is_old(page, since):
                return found
        self._log.warning("conversations_cut", agent=agent_id, listed=len(found))
        return found

    async def _page(
        self, access: Access, agent_id: str, form: str, number: int, since: float | None
    ) -> ConversationPage | None:
        parts, query = _question(form, agent_id, number, since)
        answer = await self._api.ask(access, *parts, query=query, limit_bytes=_PAGE_BYTES)
        try:
            page = await self._whole(answer, agent_id) if form == WHOLE else self._read(answer, agent_id)
        except PlatformError as error:
            if error.verdict is not Verdict.REJECT:
                raise
            raise _FormRefusedError from None
        if page is None:
            self._apis[access.api_url].absent[form] = self._clock.monotonic() + ABSENT_SECONDS
        return page

    @staticmethod
    def _read(answer: Answer, agent_id: str) -> ConversationPage | None:
        payload = read_json(answer, _WHAT)
        if payload is None:
            return None
        try:
            return parse_conversations(payload, agent_id)
        except InvalidEventError as error:
            raise PlatformError(f"{answer.host} answered {_WHAT} with something else: {error}") from None

    @staticmethod
    async def _whole(answer: Answer, agent_id: str) -> ConversationPage | None:
        """A list that has no pages, however long it is: others have their turns in between."""
        rows = read_rows(answer, _WHAT)
        if rows is None:
            return None
        found: list[ListedConversation] = []
        foreign = 0
        for start in range(0, len(rows), _TURN_ROWS):
            some = parse_conversations([_row(row) for row in rows[start : start + _TURN_ROWS]], agent_id)
            found += some.rows
            foreign += some.foreign
            await asyncio.sleep(0)
        return ConversationPage(tuple(found), foreign, len(rows), ordered=False)


def _row(raw: bytes) -> object:
    """A row; None where it cannot be read, which is no conversation."""
    try:
        return decode_json(raw)
    except UnreadableError:
        return None


def _question(
    form: str, agent_id: str, number: int, since: float | None
) -> tuple[tuple[str, ...], Mapping[str, str | int]]:
    if form == WHOLE:
        return ("conversations", "agent", agent_id), {"status": "active"}
    pages: dict[str, str | int] = {"page": number, "limit": PAGE_ROWS}
    if form == PLAIN:
        return ("conversations",), {"agentId": agent_id, "status": "active", **pages}
    wanted: dict[str, str | int] = {"filter[agentId]": agent_id, "filter[status]": "active", "sort[updatedAt]": "-1"}
    if since is not None:
        wanted["filter[updatedAt][$gte]"] = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    return ("conversations",), wanted | pages


def _is_old(page: ConversationPage, since: float | None) -> bool:
    """Whether nothing that follows a page can have changed since then."""
    if since is None or not page.ordered or not page.rows:
        return False
    return (page.rows[-1].updated_at or 0.0) < since
