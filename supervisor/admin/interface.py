"""What the admin server needs of the supervisor; :class:`supervisor.service.Service` provides it."""

from __future__ import annotations

from typing import Protocol

from supervisor.dead_letters import MessageQuery
from supervisor.events import Events
from supervisor.metrics import Metrics
from supervisor.settings import Settings
from supervisor.status import AgentStatus, MessageDetails, MessageSummary, Overview


class AdminService(Protocol):
    """The supervisor as the admin server sees it."""

    @property
    def settings(self) -> Settings: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def events(self) -> Events: ...

    def overview(self) -> Overview:
        """The whole supervisor in a few figures."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What keeps it from being ready, one line each; empty when it is."""
        ...

    def statuses(self) -> list[AgentStatus]:
        """Every agent."""
        ...

    def status(self, agent_id: str) -> AgentStatus:
        """One agent.

        Raises:
            AgentNotFoundError: there is none of that id.
        """
        ...

    async def pause(self, agent_id: str) -> None:
        """Take an agent offline until it is resumed."""
        ...

    async def resume(self, agent_id: str) -> None:
        """End an agent's pause, or its wait after a failure or refusal: it tries at once."""
        ...

    async def reload(self, agent_id: str) -> None:
        """Fetch an agent's instruction and settings anew and load its handler again."""
        ...

    async def messages(self, query: MessageQuery, limit: int) -> list[MessageSummary]:
        """The newest ``limit`` messages that match."""
        ...

    async def message(self, number: int) -> MessageDetails:
        """One message, by the journal's number.

        Raises:
            MessageNotFoundError: there is none of that number.
        """
        ...

    async def replay(self, number: int) -> None:
        """Have a dead letter run again, with all its attempts.

        Raises:
            MessageNotFoundError: there is none of that number.
            MessageStateError: it is no dead letter, or its agent was removed.
        """
        ...

    async def discard(self, number: int) -> None:
        """Cancel a dead letter; raises as :meth:`replay` does."""
        ...
