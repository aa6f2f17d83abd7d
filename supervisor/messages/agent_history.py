"""One agent's view of the platform's history: where to ask, with what, and which rows the journal has as well."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from supervisor.messages.scope import Scope
from supervisor.platform.history import MOST_PAGES, PlatformHistory
from supervisor.platform.hosts.agent_api import Access
from supervisor.protocol.history import HistoryPage, HistoryRow


class AgentHistory:
    """Reads one agent's conversations back from the platform.

    Args:
        access: where to ask and with what; called for each question, since both change.
        at_leisure: nobody waits for the answers, so that the host's rate bounds the questions.
    """

    def __init__(
        self, scope: Scope, platform: PlatformHistory, access: Callable[[], Access], *, at_leisure: bool = False
    ) -> None:
        self.scope = scope
        self._platform = platform
        self._access = access
        self._at_leisure = at_leisure

    @property
    def may_exist(self) -> bool:
        """Whether asking may be of use: False once the platform was found to have no history."""
        return self._platform.may_have(self._access().api_url)

    @property
    def can_be_read(self) -> bool:
        """Whether the platform may be asked now: the agent has a token, and :attr:`may_exist`."""
        return bool(self._access().token) and self.may_exist

    def backwards(
        self, conversation_id: str, *, most_pages: int = MOST_PAGES
    ) -> AsyncGenerator[tuple[HistoryRow, ...], None]:
        """The pages of a conversation from the newest to the oldest, each oldest first; none where there is no history.

        Args:
            most_pages: how many are asked for. What is left out is said.

        Raises:
            PlatformError: the platform did not answer as it should.
        """
        return self._platform.backwards(
            self._access(), conversation_id, most_pages=most_pages, at_leisure=self._at_leisure
        )

    async def last(self, conversation_id: str, count: int) -> HistoryPage | None:
        """The newest rows, oldest first, by one request; None where the platform has no such endpoint.

        Raises:
            PlatformError: the platform did not answer as it should.
        """
        return await self._platform.last(self._access(), conversation_id, count, at_leisure=self._at_leisure)

    async def journaled(self, rows: Sequence[HistoryRow]) -> set[str]:
        """The ids of those rows that the agent's inbox has.

        Raises:
            RegistryError: the journal cannot be read.
        """
        return await self.scope.journal.known_keys(self.scope.agent_id, [row.id for row in rows])
