"""What the paper platform answers to questions over HTTP: conversations, what was said in them, configurations."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

#: When a conversation changed last of which a test says nothing: an hour before virtual time begins.
LONG_AGO: Final = "2027-01-15T07:00:00.000Z"
#: The first rows' ids; an id is no time here.
_FIRST_ID: Final = 0xA0


@dataclass
class PaperRest:
    """See the module.

    Attributes:
        rows: the history, by conversation, oldest first; a platform without any has none.
        changed: when a conversation changed last, as ISO text.
        statuses: answered instead, by what is asked: ``conversations``, ``history`` or ``config``.
        configuration: what it tells of whichever agent without giving a token; None: it has no such endpoint.
        seconds: how long an answer takes, by what is asked.
        asked: how often it was asked.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    changed: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    configuration: dict[str, Any] | None = None
    asked: Counter[str] = field(default_factory=Counter)

    def add(self, conversation: str, content: str, at: float, *, by: str | None = None) -> dict[str, Any]:
        """A message that the platform keeps, as ``message:new`` would bring it.

        Args:
            at: when it was said, in seconds since the epoch.
            by: the agent that said it; None: a person.
        """
        number = _FIRST_ID + sum(map(len, self.rows.values()))
        said = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        role = "user" if by is None else "assistant"
        row = {"_id": f"{number:024x}", "role": role, "content": content, "createdAt": said}
        self.rows[conversation].append({**row, "createdBy": {"agentId": by}})
        self.changed[conversation] = said
        return row

    async def answer(
        self, path: str, query: Mapping[str, str], conversations: list[str] | None
    ) -> tuple[int, object] | None:
        """Status and body of what a path is answered with; None where there is no such path."""
        parts = path.split("/")
        if conversations is not None and parts[-1] == "conversations":
            return await self._take("conversations") or (200, {"data": self._listed(query, conversations)})
        if self.rows and parts[-5:-3] == ["messages", "conversation"]:
            return await self._take("history") or (200, self.rows.get(parts[-3], [])[-int(parts[-1]) :])
        if self.configuration is not None and parts[-1] == "config":
            return await self._take("config") or (200, self.configuration)
        return None

    async def _take(self, what: str) -> tuple[int, object] | None:
        self.asked[what] += 1
        await asyncio.sleep(self.seconds.get(what, 0.0))
        status = self.statuses.get(what)
        return None if status is None else (status, {"statusCode": status, "message": "Database is down"})

    def _listed(self, query: Mapping[str, str], conversations: list[str]) -> list[dict[str, str]]:
        """A page of the list, in the form of the first two generations."""
        if "filter[agentId]" not in query:
            return []
        size, agent_id = int(query["limit"]), query["filter[agentId]"]
        since = query.get("filter[updatedAt][$gte]", "")
        changed = [(one, self.changed.get(one, LONG_AGO)) for one in conversations]
        listed = sorted(((one, at) for one, at in changed if at >= since), key=lambda pair: pair[1], reverse=True)
        begins = (int(query["page"]) - 1) * size
        return [{"_id": one, "agentId": agent_id, "updatedAt": at} for one, at in listed[begins : begins + size]]
