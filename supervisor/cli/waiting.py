"""Waits for what becomes of an agent that was just added."""

from __future__ import annotations

import time
from typing import Final

from supervisor.cli import live
from supervisor.core.errors import SupervisorError
from supervisor.core.states import AgentState
from supervisor.settings import Settings

_LOOK_SECONDS: Final = 0.2
#: States that the agent does not leave by itself, or only after long.
_ENDS: Final = frozenset({AgentState.ONLINE, AgentState.REJECTED, AgentState.FAULTED, AgentState.PAUSED})


class NotOnlineError(SupervisorError):
    """An agent did not come online."""


def wait_gone(settings: Settings, agent_id: str, seconds: float) -> None:
    """Wait until the supervisor has let go of an agent that was removed: its state is not that of the next one.

    Raises:
        NotRunningError, UnreachableError: the supervisor went away.
    """
    deadline = time.monotonic() + seconds
    running = live.require(settings)
    while time.monotonic() < deadline:
        try:
            running.status(agent_id)
        except live.UnreachableError:
            raise
        except SupervisorError:
            return
        time.sleep(_LOOK_SECONDS)


def wait_online(settings: Settings, agent_id: str, seconds: float) -> None:
    """Wait until an agent is online.

    Raises:
        NotOnlineError: it will not be, or is not within ``seconds``; says why.
        NotRunningError, UnreachableError: the supervisor went away.
    """
    deadline = time.monotonic() + seconds
    running = live.require(settings)
    state, reason = "not taken up yet", ""
    while time.monotonic() < deadline:
        try:
            status = running.status(agent_id)
        except live.UnreachableError:
            raise
        except SupervisorError as error:
            # It takes a moment until the supervisor has seen the row.
            reason = str(error)
        else:
            state, reason = status.state, status.reason
            if status.state in _ENDS:
                break
        time.sleep(_LOOK_SECONDS)
    if state != AgentState.ONLINE:
        after = "" if state in _ENDS else f" after {seconds:g} s"
        raise NotOnlineError(f"Agent {agent_id} is added, and {state}{after}: {reason or 'no reason known'}")
