"""What the admin server needs of the supervisor; :class:`supervisor.service.fleetwide.Fleetwide` provides it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

from supervisor.core.activity import Minute
from supervisor.core.records import AgentEvent, AgentRecord, Removal, UsageRecord
from supervisor.core.replicas import ReplicaStatus
from supervisor.core.status import AgentStatus, CheckResult, MessageDetails, MessageSummary, Overview
from supervisor.management.agents import Changes
from supervisor.management.handlers import KnownHandler
from supervisor.management.messages import MessageQuery, Outcome
from supervisor.management.selection import Selector
from supervisor.settings import Settings
from supervisor.telemetry.events import Wanted
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.telling import Told


class AgentInsight(Protocol):
    """What is known of agents beside their states."""

    async def activity(self, agent_id: str) -> list[Minute]:
        """What one did in each minute of the last hour; raises AgentNotFoundError."""
        ...

    async def conversations(self, agent_id: str) -> list[str]:
        """The ids of the conversations that one is in, the latest first; raises AgentNotFoundError."""
        ...

    async def usage(self, agent_id: str | None, days: int) -> list[UsageRecord]:
        """What was used of language models in so many UTC days, today included; of one agent, or of all."""
        ...

    async def handlers(self) -> list[KnownHandler]:
        """The handlers that a row may name; raises HandlerError."""
        ...

    async def removals(self) -> list[Removal]:
        """The removals of agents that can be undone, the last one first."""
        ...

    async def examine(self, agent_id: str | None) -> list[CheckResult]:
        """What ``supervisor doctor`` finds, of one agent or of the fleet; raises AgentNotFoundError."""
        ...


class AdminService(Protocol):
    """The supervisor as the admin server sees it."""

    @property
    def settings(self) -> Settings: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def closing(self) -> asyncio.Event:
        """Set once whoever follows has to end."""
        ...

    def happened(
        self, wanted: Wanted, selected: Selector, *, last: int, follow: bool, after: str | None
    ) -> AsyncGenerator[Told]:
        """What happened and, with ``follow``, what happens.

        Args:
            selected: only what concerns these agents, as they are then.
            last: begin with so many events that were.
            after: the position of the event to go on after instead.
        """
        ...

    async def overview(self) -> Overview:
        """The whole supervisor in a few figures."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What keeps it from being ready, one line each; empty when it is."""
        ...

    def dead(self) -> tuple[str, ...]:
        """What has ended on which the fleet depends, one line each; empty while it lives."""
        ...

    def each_status(self) -> AsyncIterator[AgentStatus]:
        """Every agent, by id; others have their turns in between."""
        ...

    async def replicas(self) -> list[ReplicaStatus]:
        """The supervisors that share the registry, in order of their numbers."""
        ...

    async def drain(self, replica_id: int) -> None:
        """Have a replica give its agents to the others; raises RegistryError."""
        ...

    async def status(self, agent_id: str) -> AgentStatus:
        """One agent.

        Raises:
            AgentNotFoundError: there is none of that id.
        """
        ...

    async def add(self, record: AgentRecord) -> None:
        """Add an agent.

        Raises:
            ConfigurationError: it cannot work.
            AgentExistsError: there is one of that id.
        """
        ...

    async def change(self, agent_id: str, changes: Changes) -> None:
        """Change an agent.

        Raises:
            AgentNotFoundError: there is none of that id.
            ConfigurationError: it cannot work like that.
        """
        ...

    async def history(self, agent_id: str | None, limit: int, before_id: int) -> list[AgentEvent]:
        """Who changed an agent, or any with None, the newest first; of one that was removed too.

        Args:
            before_id: only events with a smaller number.

        Raises:
            AgentNotFoundError: there is none of that id, and nothing is known of one.
        """
        ...

    async def rollback(self, agent_id: str, number: int) -> None:
        """Have an agent be as it was after a change; raises as :func:`supervisor.management.history.rollback`."""
        ...

    async def restore(self, agent_id: str) -> None:
        """Undo an agent's removal within a day of it; raises AgentNotFoundError, AgentExistsError."""
        ...

    async def remove(self, agent_id: str) -> None:
        """Take an agent offline and remove its row; raises AgentNotFoundError."""
        ...

    async def act(self, action: str, agent_id: str) -> None:
        """Do something to an agent.

        Args:
            action: ``pause``: take it offline until it is resumed. ``resume``: end its pause, or its wait after a
                failure or refusal, so that it tries at once. ``reload``: fetch its instruction and settings anew and
                load its handler again.

        Raises:
            AgentNotFoundError: there is none of that id.
            SupervisorError: the replica that runs it does not answer, where that is needed.
        """
        ...

    async def act_on(self, action: str, agent_ids: Sequence[str]) -> dict[str, str]:
        """Do the same to many agents.

        Args:
            action: pause, resume, reload or remove.

        Returns:
            The ids of those to which it could not be done, each with the reason.
        """
        ...

    async def settle_all(self, action: str, numbers: Sequence[int]) -> list[Outcome]:
        """Do the same to many messages; ``action``: replay, discard or cancel."""
        ...

    @property
    def insight(self) -> AgentInsight:
        """What is known beside states."""
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

    async def settle(self, action: str, number: int) -> None:
        """Do something to a message, by the journal's number.

        Args:
            action: ``replay``: have a dead letter run again, with all its attempts. ``discard``: cancel a dead letter.
                ``cancel``: cancel a message that waits, runs or hangs, for good.

        Raises:
            MessageNotFoundError: there is none of that number.
            MessageStateError: it is no dead letter, or its agent was removed; or, to be cancelled, it had ended.
            RegistryError: the replica that runs it does not answer, where that is needed.
        """
        ...
