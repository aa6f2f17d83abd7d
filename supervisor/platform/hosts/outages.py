"""Says once that something is down and once that it is back, however many agents notice.

While few agents of a host are down each is an outage of its own. From :data:`HOST_AGENTS` on the outage is the host's,
reported in one line for all of them. An agent's own line is delayed for a moment, because others may be about to
follow. While most agents of a host are down they take turns at trying it: :mod:`supervisor.platform.hosts.probes`.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from supervisor.core.clock import Clock
from supervisor.core.tasks import cancel_all, kept
from supervisor.platform.hosts.probes import Probes
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.outage_log import OutageLog

#: So many agents of one host down at once make it the host's outage.
HOST_AGENTS = 5
#: How long an agent's own line is delayed.
REPORT_DELAY_SECONDS = 1.0
#: How long after its host an agent may be back before it counts as an outage of its own: the longest backoff.
STRAGGLER_SECONDS = 60.0
#: The fleet is called back to a host at most this often, should it come and go.
FOLLOW_SECONDS = 5.0
#: So often an agent is called back because its host takes the sends of others. What is not back then is away for
#: reasons of its own, and keeps to its backoff.
CALLS = 3


class _Line(Enum):
    """What has become of the line that says that an agent is offline."""

    PENDING = "pending"
    REPORTED = "reported"
    SUPPRESSED = "suppressed"  # the host's line speaks for the agent


@dataclass(slots=True)
class _Down:
    """An agent that is down."""

    host: str
    reason: str
    since: float
    due: float
    line: _Line = _Line.PENDING
    failures: int = 0
    calls: int = 0


@dataclass(slots=True)
class _Host:
    """A host of which some agents are down."""

    probes: Probes
    agents: dict[str, _Down] = field(default_factory=dict)
    announced: bool = False
    since: float = 0.0  # when it was announced, seconds since the epoch
    reason: str = ""
    followed_at: float = -math.inf


class Outages:
    """Which agents and hosts are down.

    A host's outage begins when :data:`HOST_AGENTS` of its agents are down. The outage ends when an agent is online
    there and fewer than so many are down; those that stay away after that are reported singly.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._log = get_logger("supervisor.fleet")
        self._host_log = OutageLog(self._log, clock, subject="host", began="host_down", ended="host_back")
        self._hosts: dict[str, _Host] = {}
        self._agents: dict[str, _Down] = {}
        self._up: dict[str, str] = {}  # the agents that are online, and their hosts
        self._online: Counter[str] = Counter()  # how many of them each host has
        self._reporter: asyncio.Task[None] | None = None
        self._replicas = 1
        # What the other processes find down, by who they are.
        self._heard: Mapping[int, frozenset[str]] = {}
        #: Called with the host when the first agent is online there after an outage; set by the fleet.
        self.on_back: Callable[[str], None] = lambda _host: None
        #: Called with an agent that is down and whose host takes sends again; set by the fleet.
        self.on_call: Callable[[str], None] = lambda _agent_id: None

    def share_with(self, replicas: int) -> None:
        """So many processes, this one included, try hosts that are down: together no more often than one would."""
        self._replicas = replicas
        for host in self._hosts.values():
            host.probes.replicas = replicas

    @property
    def down(self) -> frozenset[str]:
        """The hosts that are down for many agents of this process, and where none is in since."""
        now = self._clock.monotonic()
        return frozenset(
            host for host, entry in self._hosts.items() if entry.announced and now - entry.followed_at >= FOLLOW_SECONDS
        )

    def hear(self, down: Mapping[int, frozenset[str]]) -> None:
        """What the other processes find down, by who they are: it need not be found out once more.

        An agent that fails there waits for its turn here too, even the first one; and where one of them is in again,
        the agents here follow.
        """
        before, self._heard = self._heard, down
        back = {host for process, hosts in before.items() if process in down for host in hosts - down[process]}
        for host in back & self._hosts.keys():
            self._follow(host, self._hosts[host])
        for host, entry in self._hosts.items():
            if not self._takes_turns(host):
                entry.probes.open()

    def failed(self, agent_id: str, host: str, reason: str) -> None:
        """An agent lost its connection to ``host``, or did not get one; its turn, if it had one, is over."""
        self._set_online(agent_id, None)
        down = self._agents.get(agent_id)
        if down is not None and down.host != host:
            # Its row names another host by now.
            self.forget(agent_id)
            down = None
        entry = self._hosts.get(host)
        if entry is None:
            entry = self._hosts[host] = _Host(Probes(self._clock))
            entry.probes.replicas = self._replicas
        if down is None:
            now = self._clock.monotonic()
            down = self._agents[agent_id] = entry.agents[agent_id] = _Down(
                host, reason, now, now + REPORT_DELAY_SECONDS
            )
        down.failures += 1
        down.reason = entry.reason = reason
        entry.probes.end(agent_id)
        if entry.announced:
            self._host_log.failed(host, reason)
            self._suppress(down, math.inf)
        elif len(entry.agents) >= HOST_AGENTS:
            entry.announced, entry.since = True, self._clock.now()
            self._host_log.failed(host, reason)
            for one in entry.agents.values():
                self._suppress(one, math.inf)
        else:
            self._report_soon()

    def recovered(self, agent_id: str, host: str) -> None:
        """An agent is online at ``host``."""
        self._set_online(agent_id, host)
        self._let_follow(host)
        down = self._agents.get(agent_id)
        if down is not None:
            self._leave(agent_id, down, proof=down.host == host)
            if down.line is not _Line.SUPPRESSED:
                seconds = round(self._clock.monotonic() - down.since, 3)
                # Back before its line was written: this one then says both.
                reason = {"reason": down.reason} if down.line is _Line.PENDING else {}
                self._log.info("agent_back", agent=agent_id, seconds=seconds, failures=down.failures, **reason)
        self._end_if_over(host, proof=True)

    def takes_sends(self, host: str) -> None:
        """A send to a host was acknowledged: its agents that wait for their next attempt need not wait it out."""
        entry = self._hosts.get(host)
        if entry is None:
            return
        now = self._clock.monotonic()
        if now - entry.followed_at < FOLLOW_SECONDS:
            return
        entry.followed_at = now
        called = [agent_id for agent_id, down in entry.agents.items() if down.calls < CALLS]
        if called:
            entry.probes.open()
        for agent_id in called:
            entry.agents[agent_id].calls += 1
            self.on_call(agent_id)

    def forget(self, agent_id: str) -> None:
        """An agent is paused or removed: it is no longer missed."""
        self._set_online(agent_id, None)
        down = self._agents.get(agent_id)
        if down is not None:
            self._leave(agent_id, down, proof=False)

    def must_wait(self, agent_id: str) -> bool:
        """Whether an agent has to wait for its turn before it tries its host again."""
        down = self._agents.get(agent_id)
        return down is not None and self._takes_turns(down.host)

    async def turn(self, agent_id: str) -> None:
        """Wait until the agent may try its host again; not at all where it need not.

        The turn ends with the next :meth:`failed`, :meth:`recovered` or :meth:`forget` of the agent; a wait that is
        cancelled gives it back.
        """
        if self.must_wait(agent_id):
            await self._hosts[self._agents[agent_id].host].probes.turn(agent_id)

    async def close(self) -> None:
        """Report nothing more, and let nobody wait."""
        for entry in self._hosts.values():
            entry.probes.open()
        if self._reporter is not None:
            await cancel_all([self._reporter])
            self._reporter = None

    def notices(self) -> tuple[str, ...]:
        """One line for each host that is down."""
        return tuple(
            f"{host} is down for {len(entry.agents)} agents since {_time(entry.since)}: {entry.reason}; "
            + (
                f"{len(entry.agents) - entry.probes.trying} wait while few probe it, and follow once one is in"
                if self._takes_turns(host)
                else "each tries again by itself"
            )
            for host, entry in self._hosts.items()
            if entry.announced
        )

    def _takes_turns(self, host: str) -> bool:
        """Whether a host is down for most of its agents.

        While most are online, those that are not have reasons of their own and must not make others wait.
        """
        entry = self._hosts.get(host)
        return entry is not None and self._is_down(host, entry) and len(entry.agents) > self._online[host]

    def _is_down(self, host: str, entry: _Host) -> bool:
        """Whether a host is down for many agents, of this process or of another one."""
        return entry.announced or any(host in hosts for hosts in self._heard.values())

    def _set_online(self, agent_id: str, host: str | None) -> None:
        """An agent is online at ``host``; None: nowhere."""
        was = self._up.pop(agent_id, None)
        if was is not None:
            self._online[was] -= 1
            if not self._online[was]:
                del self._online[was]
        if host is not None:
            self._up[agent_id] = host
            self._online[host] += 1

    def _let_follow(self, host: str) -> None:
        """One is in: the others need not wait for their turns nor out their backoffs."""
        entry = self._hosts.get(host)
        if entry is not None and self._is_down(host, entry):
            self._follow(host, entry)

    def _follow(self, host: str, entry: _Host) -> None:
        now = self._clock.monotonic()
        if now - entry.followed_at >= FOLLOW_SECONDS:
            entry.followed_at = now
            entry.probes.open()
            self.on_back(host)

    def _leave(self, agent_id: str, down: _Down, *, proof: bool) -> None:
        """Count an agent as down no longer."""
        self._hosts[down.host].probes.end(agent_id)
        del self._agents[agent_id]
        del self._hosts[down.host].agents[agent_id]
        self._end_if_over(down.host, proof=proof)

    def _end_if_over(self, host: str, *, proof: bool) -> None:
        """End a host's outage where it is over.

        Args:
            proof: an agent is online there; without that the host is only no longer said to be down.
        """
        entry = self._hosts.get(host)
        if entry is None:
            return
        if entry.announced and len(entry.agents) < HOST_AGENTS:
            entry.announced = False
            if proof:
                self._host_log.recovered(host)
            else:
                self._host_log.forget(host)
            due = self._clock.monotonic() + (STRAGGLER_SECONDS if proof else REPORT_DELAY_SECONDS)
            for one in entry.agents.values():
                self._suppress(one, due)
            self._report_soon()
        if not self._takes_turns(host):
            entry.probes.open()
        if not entry.agents:
            del self._hosts[host]

    @staticmethod
    def _suppress(down: _Down, due: float) -> None:
        """Report nothing of an agent until ``due``; a line that was written stays, and its end will be reported."""
        if down.line is not _Line.REPORTED:
            down.line, down.due = _Line.SUPPRESSED, due

    def _report_soon(self) -> None:
        if self._reporter is None or self._reporter.done():
            self._reporter = asyncio.create_task(kept(self._report_due), name="outages")

    async def _report_due(self) -> None:
        """Write each agent's line when it is due, while there are any to come."""
        while waiting := [d.due for d in self._agents.values() if d.line is not _Line.REPORTED and d.due < math.inf]:
            # No longer than the delay: an agent that goes down meanwhile may be due before the others.
            await self._clock.sleep(min(REPORT_DELAY_SECONDS, min(waiting) - self._clock.monotonic()))
            now = self._clock.monotonic()
            for agent_id, down in self._agents.items():
                if down.line is not _Line.REPORTED and down.due <= now:
                    down.line = _Line.REPORTED
                    self._log.warning("agent_offline", agent=agent_id, reason=down.reason)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
