"""What the admin API asks of the supervisor: its state, and what people want done to agents and messages."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from supervisor import __version__
from supervisor.core.errors import AgentNotFoundError
from supervisor.core.records import AgentEvent, AgentRecord
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, InboxCounts, MessageDetails, MessageSummary, Overview
from supervisor.core.trouble import FAILING, SPENT, STUCK, oldest
from supervisor.fleet import Fleet, Shared
from supervisor.management import agents, history, messages
from supervisor.management.messages import MessageQuery, Outcome
from supervisor.service.insight import Insight
from supervisor.store import Registry
from supervisor.telemetry.redaction import redact


class Control:
    """The running supervisor as :class:`supervisor.admin.AdminService` sees it.

    Every change goes to the registry first; the fleet then follows at once rather than at its next look.

    Args:
        problems: what keeps the supervisor from being ready, one line each.
        dead: what has ended on which the fleet depends, one line each.
        notices: what people should know of the supervisor itself, as long as that is so, one line each.
    """

    def __init__(
        self,
        registry: Registry,
        fleet: Fleet,
        shared: Shared,
        problems: Callable[[], tuple[str, ...]],
        dead: Callable[[], tuple[str, ...]],
        notices: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self.settings = shared.settings
        self.metrics = shared.metrics
        self.events = shared.events
        self.problems = problems
        self.dead = dead
        self._notices = notices
        self._registry = registry
        self._fleet = fleet
        self._shared = shared
        self._started_at = shared.clock.now()
        self.insight = Insight(registry, fleet, shared, self.overview)

    def overview(self) -> Overview:
        """The whole supervisor in a few figures."""
        states = self._fleet.states()
        inboxes = list(self._fleet.inbox().values())
        notices = [*self._notices(), *self._shared.outages.notices()]
        notices += [
            f"{_count(states[state])} {state}; see: supervisor agents list"
            for state in (AgentState.REJECTED, AgentState.FAULTED)
            if states.get(state)
        ]
        failing, stuck, spent = (self._fleet.troubles()[trouble] for trouble in (FAILING, STUCK, SPENT))
        if failing:
            notices.append(f"{_count(len(failing))} failing; see: supervisor agents list")
        if stuck:
            times = [at for runner in stuck if (at := runner.agent.pipeline.answers.oldest_at) is not None]
            age = oldest(self._shared.clock.now() - min(times, default=self._shared.clock.now()))
            notices.append(f"{_count(len(stuck))} stuck ({age}); see: supervisor agents list")
        if spent:
            notices.append(f"{_count(len(spent))} out of budget for today; see: supervisor agents list --state spent")
        undelivered, why = self._fleet.undelivered()
        if undelivered:
            waiting = "1 reply waits" if undelivered == 1 else f"{undelivered} replies wait"
            notices.append(f"{waiting} to be sent again: {redact(why)}; see: supervisor messages list --undelivered")
        if roomless := self._shared.room.waiting:
            notices.append(f"{_count(roomless)} waiting {self._shared.room.reason.removeprefix('waits ')}")
        if asleep := self._fleet.asleep:
            notices.append(f"{_count(asleep)} asleep; see: supervisor agents list")
        return Overview(
            version=__version__,
            pid=os.getpid(),
            registry_uuid=self._registry.uuid,
            started_at=self._started_at,
            agents={str(state): count for state, count in sorted(states.items()) if count},
            inbox=InboxCounts(
                sum(counts.available for counts in inboxes),
                sum(counts.running for counts in inboxes),
                sum(counts.dead for counts in inboxes),
            ),
            problems=self.problems(),
            notices=tuple(notices),
            undelivered=undelivered,
            failing=len(failing),
            stuck=len(stuck),
            spent=len(spent),
            deployment=self.settings.deployment_name,
            registry=self._registry.where,
            currency=self.settings.currency,
        )

    async def each_status(self) -> AsyncIterator[AgentStatus]:
        """Every agent, by id; others have their turns in between."""
        async for agent_id in self._shared.turns.each(self._fleet.agent_ids()):
            # It may have been removed meanwhile.
            with suppress(AgentNotFoundError):
                yield self._fleet.runner(agent_id).status()

    def statuses(self) -> list[AgentStatus]:
        """Every agent."""
        return self._fleet.statuses()

    def status(self, agent_id: str) -> AgentStatus:
        """One agent, with where its handler stands; raises AgentNotFoundError."""
        runner = self._fleet.runner(agent_id)
        return replace(runner.status(), handling=runner.agent.pipeline.answers.under_way)

    async def add(self, record: AgentRecord) -> None:
        """Add an agent; raises as :func:`supervisor.management.agents.add_agent` does."""
        await agents.add_agent(self._registry, self.checker(), record)
        await self._fleet.reconcile()

    async def change(self, agent_id: str, changes: agents.Changes) -> None:
        """Change an agent; raises as :func:`supervisor.management.agents.change_agents` does."""
        await agents.change_agents(self._registry, self.checker(), [agent_id], changes)
        await self._fleet.reconcile()

    async def remove(self, agent_id: str) -> None:
        """Remove an agent; raises AgentNotFoundError."""
        await self._registry.remove_agent(agent_id)
        await self._fleet.reconcile()

    def checker(self) -> agents.Checker:
        """What the deployment allows in an agent's row, as its handlers are now."""
        return agents.Checker(self.settings, self._shared.loader.agents_dir)

    async def history(self, agent_id: str | None, limit: int, before_id: int) -> list[AgentEvent]:
        """Who changed an agent, or any; raises AgentNotFoundError where nothing is known of one of that id."""
        return await history.of(self._registry, agent_id, limit, before_id)

    async def rollback(self, agent_id: str, number: int) -> None:
        """Have an agent be as it was; raises as :func:`supervisor.management.history.rollback` does."""
        await history.rollback(self._registry, self.checker(), agent_id, number)
        await self._fleet.reconcile()

    async def restore(self, agent_id: str) -> None:
        """Undo a removal; raises AgentNotFoundError, AgentExistsError."""
        await self._registry.restore_agent(agent_id)
        await self._fleet.reconcile()

    async def pause(self, agent_id: str) -> None:
        """Take an agent offline until it is resumed; raises AgentNotFoundError."""
        await self._registry.update_agent(agent_id, paused=True)
        await self._fleet.reconcile()

    async def resume(self, agent_id: str) -> None:
        """End an agent's pause or its wait; raises AgentNotFoundError."""
        await self._registry.update_agent(agent_id, paused=False)
        await self._fleet.reconcile()
        self._fleet.runner(agent_id).retry_now()

    async def reload(self, agent_id: str) -> None:
        """Read an agent's handler, instruction and settings anew; raises AgentNotFoundError."""
        self._fleet.runner(agent_id).reload()

    async def act_on(self, action: str, agent_ids: Sequence[str]) -> dict[str, str]:
        """Pause, resume, reload or remove many agents; those that it could not be done to, each with the reason."""
        refused: dict[str, str] = {}
        for agent_id in agent_ids:
            try:
                if action == "remove":
                    await self._registry.remove_agent(agent_id)
                elif action == "reload":
                    self._fleet.runner(agent_id).reload()
                else:
                    await self._registry.update_agent(agent_id, paused=action == "pause")
            except AgentNotFoundError as error:
                refused[agent_id] = str(error)
        # Once for all of them: it reads every row.
        await self._fleet.reconcile()
        if action == "resume":
            for agent_id in agent_ids:
                with suppress(AgentNotFoundError):
                    self._fleet.runner(agent_id).retry_now()
        return refused

    async def settle_all(self, action: str, numbers: Sequence[int]) -> list[Outcome]:
        """Replay, discard or cancel many messages; what became of each, in the order of their numbers."""
        if action == "cancel":
            return await messages.cancel(self._registry, numbers, self._fleet.cancel)
        settle = messages.replay if action == "replay" else messages.discard
        outcomes = await settle(self._registry, numbers)
        await self._fleet.journal.take_up_replays()
        return outcomes

    async def messages(self, query: MessageQuery, limit: int) -> list[MessageSummary]:
        """The newest ``limit`` messages that match."""
        conditions = query.conditions(self._shared.clock.now())
        rows = await self._registry.journal.messages(**conditions, limit=limit)
        return await messages.summaries(self._registry, rows)

    async def message(self, number: int) -> MessageDetails:
        """One message; raises MessageNotFoundError."""
        return await messages.details(self._registry, number)

    async def replay(self, number: int) -> None:
        """Have a dead letter run again.

        Raises:
            MessageNotFoundError: there is none of that number.
            MessageStateError: it is no dead letter, or its agent was removed.
        """
        await self._settled_by_hand(await messages.replay(self._registry, [number]))

    async def discard(self, number: int) -> None:
        """Cancel a dead letter; raises as :meth:`replay` does."""
        await self._settled_by_hand(await messages.discard(self._registry, [number]))

    async def cancel(self, number: int) -> None:
        """Cancel a message that waits, runs or hangs.

        Raises:
            MessageNotFoundError: there is none of that number.
            MessageStateError: it had ended already.
        """
        [outcome] = await messages.cancel(self._registry, [number], self._fleet.cancel)
        if outcome.refused is not None:
            raise outcome.refused

    async def _settled_by_hand(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.refused is not None:
                raise outcome.refused
        await self._fleet.journal.take_up_replays()


def _count(agents: int) -> str:
    return "1 agent is" if agents == 1 else f"{agents} agents are"
