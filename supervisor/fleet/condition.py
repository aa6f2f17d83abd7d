"""How one agent is: its state, since when and why; each change is checked, logged and passed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.core.clock import Clock
from supervisor.core.states import AGENT_TRANSITIONS, AgentState, check_transition

_REFUSED = frozenset({AgentState.REJECTED, AgentState.FAULTED})


class Condition:
    """One agent's state.

    Args:
        log: the agent's logger.
        on_change: called with the old and the new state, after the change.
    """

    def __init__(self, clock: Clock, log: Any, on_change: Callable[[AgentState, AgentState], None]) -> None:
        self.state = AgentState.STOPPED
        #: When the state began, seconds since the epoch.
        self.since = clock.now()
        #: Why, in words for people; empty where the state explains itself.
        self.reason = ""
        self._clock = clock
        self._log = log
        self._on_change = on_change
        self._logged = ""  # the refusal or fault that was logged last and has not ended
        self._seen_online = False

    def become(self, state: AgentState, reason: str = "") -> None:
        """Enter a state, or give the present one another reason.

        Raises:
            IllegalTransitionError: no way leads there from the present state.
        """
        old = self.state
        if old is state:
            self.reason = reason
            if state in _REFUSED:
                self._log_refusal()
            return
        check_transition(AGENT_TRANSITIONS, old, state)
        self.state, self.reason, self.since = state, reason, self._clock.now()
        self._log_change(old)
        self._on_change(old, state)

    def _log_change(self, old: AgentState) -> None:
        """A line for a refusal or fault, and one for its end. Outages have :mod:`supervisor.platform.hosts.outages`."""
        if self.state in _REFUSED:
            self._log_refusal()
        elif self.state is AgentState.ONLINE and (self._logged or not self._seen_online):
            self._logged, self._seen_online = "", True
            self._log.info("agent_online")
        elif self.state is AgentState.PAUSED:
            self._logged, self._seen_online = "", False
            self._log.info("agent_paused")
        else:
            self._log.debug("state", state=str(self.state), was=str(old), reason=self.reason or None)

    def _log_refusal(self) -> None:
        """Once for each reason: the retries say nothing new."""
        if self.reason != self._logged:
            self._logged = self.reason
            self._log.warning(f"agent_{self.state}", reason=self.reason)
