"""Whose turn it is to find out whether the platform still finds it: each host's agents take turns, at a bounded rate.

A platform may forget an agent that stays connected (docs/protocol.md#7-findings, 1), and nothing tells the agent. What
does tell is a join of an own conversation, after which the own presence comes only while the platform knows the agent.
It was seen at the joining socket alone. Turns are spaced as if it went to all sockets of the fleet, as after a connect:
that would cost the platform and us the square of the fleet.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from supervisor.core.clock import Clock
from supervisor.core.tasks import TaskSet, cancel_all, first_of, kept
from supervisor.telemetry.logs import get_logger

#: Presences a second that the checks of one host's agents may cause in all, at every socket of the fleet together.
PRESENCES_PER_SECOND: Final = 2000.0
#: So many agents in a row that the platform has forgotten, and it has forgotten all: a Redis that lost its data.
ALL_FORGOTTEN: Final = 3
#: An agent's turns are so far apart at the least, and so many fit into the age that its socket may have.
CHECK_SECONDS, CHECKS_WITHIN_AGE = 60.0, 50
#: So many connects of a host's rate stand against one check.
CONNECTS_FOR_CHECK: Final = 10
#: A sleep may end so much before its time, by the rounding of numbers.
_ROUNDING: Final = 1e-6
#: How many others are checked at once when one was forgotten: enough to know whether all were.
NEIGHBOURS: Final = 4


class Checked(Protocol):
    """One agent, as the checks see it."""

    @property
    def can_be_checked(self) -> bool:
        """Whether there is something to ask with: it is online, has one socket and a conversation."""

    def check(self) -> Awaitable[bool | None]:
        """Ask; whether the platform finds the agent, None where that did not become clear."""

    def forgotten(self, since: float) -> None:
        """The platform has forgotten an agent that was connected before ``since`` (monotonic seconds)."""


@dataclass(slots=True)
class _Member:
    """An agent that takes turns.

    Attributes:
        entered_at: when its connection was new.
        known_at: when the platform certainly found it last: at its entry, or when it was asked and found.
        due_at: when its next turn may come, in monotonic seconds.
        failures: how often in a row it was not found, though its socket was new from the second time on: its turns
            get ever rarer, because its check may be of no use.
    """

    who: Checked
    entered_at: float
    known_at: float
    due_at: float
    failures: int = 0


@dataclass(slots=True)
class _Suspicion:
    """Agents in a row that were not found.

    Attributes:
        since: when the first of them was asked, in monotonic seconds; what was found later is known again.
        known_at: when one of them was found last. Had all been forgotten at once, it was after that.
    """

    since: float
    known_at: float
    agents: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Trial:
    """The agent that shows whether the platform's silence means anything; asked first at ``since``, found before."""

    agent_id: str
    since: float
    known_at: float


class HostChecks:
    """The turns of one host's agents.

    Args:
        rate: checks a second at most.
        interval_seconds: from one turn of an agent to its next, at the least.
    """

    def __init__(self, host: str, clock: Clock, *, rate: float, interval_seconds: float) -> None:
        self._host = host
        self._clock = clock
        self._rate = rate
        self._interval = interval_seconds
        #: How many processes check there, this one included, each about as many agents.
        self.replicas = 1
        #: In the order of their turns, which is that of ``due_at`` but for those that were not found.
        self._members: OrderedDict[str, _Member] = OrderedDict()
        self._urgent: OrderedDict[str, None] = OrderedDict()
        self._suspicion: _Suspicion | None = None
        #: Whether the platform was ever seen to tell. Until then only one agent gets a new socket for its silence.
        self._proven = False
        self._trial: _Trial | None = None
        self._next_at = clock.monotonic()
        self._more = asyncio.Event()
        self._tasks = TaskSet()
        self._pump: asyncio.Task[None] | None = None
        self._log = get_logger("supervisor.fleet")

    @property
    def rate(self) -> float:
        """How many checks a second there are at most, with so many agents."""
        return min(self._rate, PRESENCES_PER_SECOND / max(1, len(self._members) * self.replicas)) / self.replicas

    def enter(self, agent_id: str, who: Checked) -> None:
        """An agent has a new connection: it takes turns from now on."""
        failures = self._members[agent_id].failures if agent_id in self._members else 0
        now = self._clock.monotonic()
        self._members[agent_id] = _Member(who, now, now, self._after(failures), failures)
        self._members.move_to_end(agent_id)
        self._look()

    def leave(self, agent_id: str) -> None:
        """An agent is offline or gone."""
        self._members.pop(agent_id, None)
        self._urgent.pop(agent_id, None)
        if self._trial is not None and self._trial.agent_id == agent_id:
            self._trial = None
        # Where nobody is left its turns end by themselves.
        self._more.set()

    def soon(self, agent_id: str) -> None:
        """Let an agent's turn come before those whose time it merely is."""
        if agent_id in self._members and self._members[agent_id].failures < 2:
            self._urgent[agent_id] = None
            self._look()

    async def close(self) -> None:
        """Check nothing more."""
        self._members.clear()
        if self._pump is not None:
            await cancel_all([self._pump])
        await self._tasks.cancel()

    def _after(self, failures: int) -> float:
        """When the next turn of an agent may come that was not found so often in a row."""
        return self._clock.monotonic() + self._interval * 2.0 ** min(failures, 10)

    def _look(self) -> None:
        self._more.set()
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(kept(self._give_turns), name=f"checks {self._host}")

    async def _give_turns(self) -> None:
        while self._members:
            self._more.clear()
            now = self._clock.monotonic()
            if now < self._next_at - _ROUNDING:
                await self._clock.sleep(self._next_at - now)
                continue
            agent_id = self._next(now)
            if agent_id is None:
                wait = min(member.due_at for member in self._members.values()) - now
                await first_of(self._clock.sleep(max(0.0, wait)), self._more.wait())
                continue
            self._next_at = now + 1.0 / self.rate
            self._tasks.spawn(self._check(agent_id, self._members[agent_id]), f"check {agent_id}")

    def _next(self, now: float) -> str | None:
        """Whose turn it is; those who cannot be asked wait for their next one."""
        while self._urgent:
            agent_id, _ = self._urgent.popitem(last=False)
            if self._members[agent_id].who.can_be_checked:
                self._take_turn(agent_id)
                return agent_id
        for agent_id, member in list(self._members.items()):
            if member.due_at > now + _ROUNDING:
                if member.failures == 0:
                    return None
                continue
            self._take_turn(agent_id)
            if member.who.can_be_checked:
                return agent_id
        return None

    def _take_turn(self, agent_id: str) -> None:
        member = self._members[agent_id]
        member.due_at = self._after(member.failures)
        self._members.move_to_end(agent_id)

    async def _check(self, agent_id: str, member: _Member) -> None:
        asked_at = self._clock.monotonic()
        found = await member.who.check()
        if found is None or self._members.get(agent_id) is not member:
            return
        if found:
            self._found(agent_id, member, asked_at)
        elif self._proven or self._trial is None or self._trial.agent_id == agent_id:
            member.failures += 1
            self._log.info("agent_forgotten", agent=agent_id, host=self._host, remedy="opening a new socket")
            member.who.forgotten(asked_at)
            if self._proven:
                self._suspect(agent_id, asked_at, member.known_at)
            else:
                self._trial = _Trial(agent_id, asked_at, member.known_at)

    def _found(self, agent_id: str, member: _Member, asked_at: float) -> None:
        """The platform finds an agent, and tells so."""
        member.known_at = asked_at
        if self._suspicion is not None and member.entered_at <= self._suspicion.known_at:
            # It was connected all the time and is known: the platform has not forgotten all.
            self._suspicion = None
        if member.failures:
            member.failures = 0
            self._take_turn(agent_id)
        trial, self._trial = self._trial, None
        if not self._proven and trial is not None and trial.agent_id == agent_id:
            # The new socket is found, so the old one had been forgotten: so may the others have been.
            self._proven = True
            self._suspect(agent_id, trial.since, trial.known_at)
        self._proven = True

    def _suspect(self, agent_id: str, asked_at: float, known_at: float) -> None:
        """One was forgotten: ask its neighbours at once, and where they were forgotten too, renew all."""
        if self._suspicion is None:
            self._suspicion = _Suspicion(asked_at, known_at)
        suspicion = self._suspicion
        suspicion.known_at = max(suspicion.known_at, known_at)
        suspicion.agents.add(agent_id)
        others = [one for one, m in self._members.items() if one not in suspicion.agents and m.who.can_be_checked]
        if others and len(suspicion.agents) < ALL_FORGOTTEN:
            for other in others[:NEIGHBOURS]:
                self._urgent[other] = None
            self._look()
            return
        self._suspicion = None
        if len(self._members) > 1:
            self._log.warning("all_agents_forgotten", host=self._host, agents=len(self._members))
        for member in list(self._members.values()):
            if member.known_at <= suspicion.since:
                member.who.forgotten(suspicion.since)


class Checks:
    """The turns of all hosts' agents.

    Args:
        rate: checks a second and host at most.
        interval_seconds: from one turn of an agent to its next, at the least.
    """

    def __init__(self, clock: Clock, *, rate: float, interval_seconds: float) -> None:
        self._make: Callable[[str], HostChecks] = lambda host: HostChecks(
            host, clock, rate=rate, interval_seconds=interval_seconds
        )
        self._by_host: dict[str, HostChecks] = {}
        self._replicas = 1

    def of(self, host: str) -> HostChecks:
        """The turns at ``host``, which may name a port."""
        if host not in self._by_host:
            self._by_host[host] = self._make(host)
            self._by_host[host].replicas = self._replicas
        return self._by_host[host]

    def share_with(self, replicas: int) -> None:
        """So many processes, this one included, check agents: together no more often than one would."""
        self._replicas = replicas
        for checks in self._by_host.values():
            checks.replicas = replicas

    async def close(self) -> None:
        """Check nothing more."""
        for checks in self._by_host.values():
            await checks.close()
