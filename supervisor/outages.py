"""Says once that something is down and once that it is back, however many agents notice (DESIGN §3).

While few agents of a host are down each is its own outage; from :data:`HOST_AGENTS` on it is the host's, told in one
line for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from supervisor.clock import Clock
from supervisor.logs import OutageLog, get_logger

#: So many agents of one host down at once make it the host's outage.
HOST_AGENTS = 5


@dataclass(slots=True)
class _Host:
    down: dict[str, str] = field(default_factory=dict)  # agent id → reason
    announced: bool = False


class Outages:
    """Which agents and hosts are down."""

    def __init__(self, clock: Clock) -> None:
        log = get_logger("supervisor.fleet")
        self._agents = OutageLog(log, clock, began="agent_offline", ended="agent_back")
        self._host_log = OutageLog(log, clock, subject="host", began="host_down", ended="host_back")
        self._hosts: dict[str, _Host] = {}
        self._down_at: dict[str, str] = {}  # agent id → the host under which it is down

    def failed(self, agent_id: str, host: str, reason: str) -> None:
        """An agent lost its connection, or did not get one."""
        if self._down_at.get(agent_id, host) != host:
            # Its row names another host by now.
            self.forget(agent_id, host)
        self._down_at[agent_id] = host
        entry = self._hosts.setdefault(host, _Host())
        entry.down[agent_id] = reason
        if entry.announced or len(entry.down) >= HOST_AGENTS:
            entry.announced = True
            self._host_log.failed(host, reason)
        else:
            self._agents.failed(agent_id, reason)

    def recovered(self, agent_id: str, host: str) -> None:  # noqa: ARG002  it may have gone down under another one
        """An agent is online."""
        self._agents.recovered(agent_id)
        if (left := self._leave(agent_id)) is not None:
            self._host_log.recovered(left)

    def forget(self, agent_id: str, host: str) -> None:  # noqa: ARG002  it may have gone down under another one
        """An agent is paused or removed: it is no longer missed."""
        self._agents.forget(agent_id)
        if (left := self._leave(agent_id)) is not None:
            self._host_log.forget(left)

    def _leave(self, agent_id: str) -> str | None:
        """Count an agent as down no longer; the host, if no other agent of it is."""
        host = self._down_at.pop(agent_id, None)
        if host is None:
            return None
        entry = self._hosts[host]
        del entry.down[agent_id]
        if entry.down:
            return None
        del self._hosts[host]
        return host

    def notices(self) -> tuple[str, ...]:
        """One line for each host that is down."""
        return tuple(
            f"{host} is down for {len(entry.down)} agents: {next(reversed(entry.down.values()))}"
            for host, entry in self._hosts.items()
            if entry.announced
        )
