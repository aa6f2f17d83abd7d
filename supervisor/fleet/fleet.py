"""Makes the running agents match the registry: reconcile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import partial

from supervisor.core.errors import AgentNotFoundError, RegistryError
from supervisor.core.flags import Flag
from supervisor.core.records import JournaledMessage
from supervisor.core.states import AgentState, MessageState
from supervisor.core.status import AgentStatus, InboxCounts, Reading
from supervisor.core.tasks import cancel_all, is_cancelled, kept
from supervisor.core.trouble import FAILING, SPENT, STUCK
from supervisor.fleet.change_log import ChangeLog
from supervisor.fleet.handovers import Handovers
from supervisor.fleet.journal_sync import JournalSync
from supervisor.fleet.ownership import Ownership
from supervisor.fleet.removals import Removals
from supervisor.fleet.runner import Runner
from supervisor.fleet.shared import Shared
from supervisor.messages import Pipeline
from supervisor.store import Registry
from supervisor.telemetry.failures import describe
from supervisor.telemetry.logs import get_logger

#: How often the registry is asked whether anyone changed it, at the least: a change is to be noticed within 250 ms.
POLL_SECONDS = 0.2
#: How long to wait before an agent whose task broke down is begun again.
CRASH_SECONDS = 5.0
#: How long agents that are cut short may take for what they do at their end.
UNWIND_SECONDS = 1.5


class Fleet:
    """All agents of one registry. Owns the runners; nobody else starts or stops one."""

    def __init__(self, registry: Registry, shared: Shared) -> None:
        self._registry = registry
        self._shared = shared
        self._ownership = Ownership(registry, shared.turns)
        self._runners: dict[str, Runner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: Replays and counts.
        self.journal = JournalSync(shared.journal, self._pipelines, shared.metrics.handed_in)
        self._change_log = ChangeLog(registry)
        self._removals = Removals(shared, self._runners.__contains__)
        self._handovers = Handovers(registry, shared, self._runners, self._tasks, self._removals)
        self._changed = Flag()
        self._reconciling = asyncio.Lock()
        self._log = get_logger("supervisor.fleet")
        shared.outages.on_back = self._host_is_back
        shared.outages.on_call = self._call_back

    async def watch(self) -> None:
        """Follow the registry until cancelled; trouble reading it leaves the fleet as it is."""
        # Begun again after it died, it may have missed a change.
        failing, pending = False, True
        while True:
            try:
                pending |= await self._registry.changed() or self._handovers.unseen
                if pending:
                    await self.reconcile()
                    await self.journal.take_up_replays()
                    pending = False
                if failing:
                    self._log.info("registry_back")
                failing = False
            except RegistryError as error:
                if not failing:
                    self._log.error("registry_unreadable", reason=str(error))
                failing = True
            await self._registry.wait_for_change(POLL_SECONDS)

    async def reconcile(self) -> None:
        """Read all rows once and start, change or stop agents accordingly; compares content, trusts no counter."""
        # One at a time: what was read first must not be applied last.
        async with self._reconciling:
            self._handovers.look()
            owned = await self._ownership.look()
            gone = [one for one in self._runners.keys() - owned.wanted.keys() if not self._handovers.is_going(one)]
            touched = list(gone)
            for agent_id in gone:
                self._removals.begin(self._runners.pop(agent_id), self._tasks.pop(agent_id))
            async for agent_id, record in self._shared.turns.each(owned.wanted.items()):
                runner = self._runners.get(agent_id)
                if runner is None and self._handovers.has_gone(agent_id):
                    continue
                if runner is None:
                    if agent_id in owned.left:
                        self._shared.metrics.took_over()
                    self._add(Runner(record, self._shared, self._publish_state), standby=agent_id not in owned.own)
                elif not runner.wanted.same_content(record):
                    runner.want(record)
                else:
                    continue
                touched.append(agent_id)
            self._handovers.follow(owned)
            await self._change_log.follow([one for one in touched if one not in owned.coming])

    def _pipelines(self) -> Mapping[str, Pipeline]:
        return {agent_id: runner.agent.pipeline for agent_id, runner in self._runners.items()}

    def _add(self, runner: Runner, *, standby: bool) -> None:
        agent_id = runner.wanted.id
        if standby:
            runner.coming.begin(partial(self._handovers.ready, agent_id), partial(self._handovers.refused, agent_id))
        self._runners[agent_id] = runner
        self._shared.metrics.agent_state(agent_id, None, runner.condition.state)
        task = asyncio.create_task(self._run(runner, self._removals.of(agent_id)), name=f"agent {agent_id}")
        self._tasks[agent_id] = task

    async def _run(self, runner: Runner, predecessor: asyncio.Task[None] | None) -> None:
        """Run an agent; a defect of ours ends its task, not the fleet, and is begun again.

        Args:
            predecessor: the end of an agent of the same id that was removed: it must let go of the socket and of its
                journaled messages first.
        """
        if predecessor is not None:
            await kept(partial(asyncio.wait, [predecessor]))
        while True:
            try:
                return await runner.run()
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                self._log.exception("agent_crashed", agent=runner.wanted.id)
                reason = f"broke down and begins again in {CRASH_SECONDS:g} s: {describe(error, runner.agent.redact)}"
                runner.condition.become(AgentState.STOPPED, reason)
                await kept(partial(self._shared.clock.sleep, CRASH_SECONDS))

    def _publish_state(self, runner: Runner, old: AgentState, new: AgentState) -> None:
        if self._runners.get(runner.wanted.id) is runner:
            self._shared.metrics.agent_state(runner.wanted.id, old, new)
        shown = {
            "agent": runner.wanted.id,
            "state": new,
            "was": old,
            "since": runner.condition.since,
            "reason": runner.condition.reason,
        }
        self._shared.events.publish("state", runner.wanted.id, shown)
        # Whoever waits is woken; whoever looks next waits for the next change.
        self._changed.set()
        self._changed.clear()

    def _host_is_back(self, host: str) -> None:
        """A host that was down is back: its agents follow at the rate of its bucket."""
        for runner in self._runners.values():
            if runner.host == host:
                runner.host_is_back()

    def _call_back(self, agent_id: str) -> None:
        """An agent's host takes sends again: it follows at the rate of its bucket."""
        runner = self._runners.get(agent_id)
        if runner is not None:
            runner.host_is_back()

    def runner(self, agent_id: str) -> Runner:
        """The runner of an agent.

        Raises:
            AgentNotFoundError: no such agent is registered.
        """
        try:
            return self._runners[agent_id]
        except KeyError:
            raise AgentNotFoundError(agent_id) from None

    async def cancel(self, row: JournaledMessage, reason: str) -> bool:
        """Cancel a message of an agent for good, whatever it does at the moment; whether it was in time.

        Args:
            row: as the journal has it.

        Raises:
            RegistryError: the database refused it.
        """
        runner = self._runners.get(row.agent_id)
        if runner is not None:
            return await runner.agent.pipeline.answers.cancel(row, reason)
        settled = await self._shared.journal.settle(row, MessageState.CANCELLED, error=reason)
        return settled is not None

    def agent_ids(self) -> list[str]:
        """All agents, in order."""
        return sorted(self._runners)

    def statuses(self) -> list[AgentStatus]:
        """All agents, by id."""
        return [self._runners[agent_id].status() for agent_id in self.agent_ids()]

    def states(self) -> Mapping[AgentState, int]:
        """How many agents are in each state."""
        return Counter(runner.condition.state for runner in self._runners.values())

    def troubles(self) -> Mapping[str, list[Runner]]:
        """The agents that are online and failing, stuck or spent, by which of these they are."""
        found: dict[str, list[Runner]] = {FAILING: [], STUCK: [], SPENT: []}
        for runner in self._runners.values():
            if trouble := runner.agent.trouble(runner.condition.state):
                found[trouble].append(runner)
        return found

    @property
    def asleep(self) -> int:
        """How many agents sleep."""
        return sum(pipeline.duties.sleeping.current is not None for pipeline in self._pipelines().values())

    def inbox(self) -> Mapping[str, InboxCounts]:
        """Messages of each agent."""
        return {agent_id: pipeline.counts for agent_id, pipeline in self._pipelines().items()}

    def undelivered(self) -> tuple[int, str]:
        """How many replies of all agents wait because sending failed; why one of them did."""
        found = [pipeline.outbox.undelivered for pipeline in self._pipelines().values()]
        return sum(number for number, _ in found), next((reason for number, reason in found if number), "")

    def reading(self, agent_id: str) -> Reading | None:
        """What the metrics read of an agent; None of one that is gone."""
        runner = self._runners.get(agent_id)
        return None if runner is None else runner.agent.pipeline.reading

    def name_and_handler(self, agent_id: str) -> tuple[str, str] | None:
        """What people call an agent, empty where they do not, and what answers for it; None of one that is gone."""
        runner = self._runners.get(agent_id)
        return None if runner is None else (runner.wanted.name or "", runner.wanted.handler)

    def unfindable(self) -> int:
        """How many agents are connected and, as far as is known, not found for new conversations."""
        return sum(runner.findability.lost for runner in self._runners.values())

    def covered(self) -> dict[str, float]:
        """Until when nothing can have been missed, for each agent that is connected, in seconds since the epoch."""
        connected = {one: pipeline for one, pipeline in self._pipelines().items() if pipeline.connection is not None}
        found = {agent_id: pipeline.roster.covered_until for agent_id, pipeline in connected.items()}
        return {agent_id: at for agent_id, at in found.items() if at}

    def dead(self) -> tuple[str, ...]:
        """One line for each agent whose task has ended although it is registered."""
        return tuple(f"the task of agent {agent_id} has ended" for agent_id, task in self._tasks.items() if task.done())

    async def wait_online(self, count: int, timeout: float) -> None:
        """Return once ``count`` agents are online.

        Raises:
            TimeoutError: they were not in time.
        """
        async with asyncio.timeout(timeout):
            while self.states().get(AgentState.ONLINE, 0) < count:
                await self._changed.wait()

    async def stop(self, grace_seconds: float) -> bool:
        """Drain all agents at once and end them; whether all ended within the grace period and a little more."""
        await self._handovers.close()
        for runner in self._runners.values():
            runner.stop(grace_seconds)
        tasks = {*self._tasks.values(), *self._removals.stop()}
        if not tasks:
            return True
        try:
            await asyncio.wait(tasks, timeout=grace_seconds + 10)
        finally:
            # Also when a second signal ends the wait: what runs is given back while the journal is still open.
            left = [task for task in tasks if not task.done()]
            await cancel_all(left, UNWIND_SECONDS)
        cut_short = any(runner.cut_short for runner in self._runners.values())
        self._runners.clear()
        self._tasks.clear()
        return not left and not cut_short
