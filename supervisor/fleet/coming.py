"""An agent that comes from another process: connected here while it runs there, then taken over."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.errors import ConnectError, ConnectionLostError, PlatformError
from supervisor.core.states import AgentState
from supervisor.fleet.agent import Agent
from supervisor.fleet.change import Changed
from supervisor.fleet.configuration import Configuration
from supervisor.fleet.desired import Desired
from supervisor.platform.connection import Connection

#: In which states it cannot be better prepared.
_AS_GOOD_AS_ANYWHERE = frozenset({AgentState.PAUSED, AgentState.FAULTED, AgentState.REJECTED})
#: So often in a row the platform refuses a socket that it will not have beside its owner's: once may be for its token.
REFUSALS = 2


class Coming:
    """One agent's way here; nothing of it is to be seen where an agent has always been this process's."""

    def __init__(self, agent: Agent, desired: Desired, configuration: Configuration) -> None:
        self._agent = agent
        self._desired = desired
        self._configuration = configuration
        self._on_ready: Callable[[], None] = lambda: None
        # Whether its owner was told to let go of it.
        self._announced = False
        self._on_refused: Callable[[], None] = lambda: None
        self._refusals = 0

    @property
    def waits(self) -> bool:
        """Whether another process has the agent still."""
        return self._desired.standby

    def begin(self, on_ready: Callable[[], None], on_refused: Callable[[], None]) -> None:
        """Connect, and keep what is heard; to be called before the agent runs.

        Args:
            on_ready: told that it is connected, or cannot be.
            on_refused: told that the platform will not have it connected here while it is connected there.
        """
        self._desired.stand_by()
        self._agent.pipeline.standby.begin()
        self._on_ready, self._on_refused = on_ready, on_refused

    def own(self, *, missed: bool) -> None:
        """The agent is this process's from now on.

        Args:
            missed: whether its owner may not have heard everything until it let go of it.
        """
        self._desired.own(missed=missed)

    def notice(self, state: AgentState) -> None:
        """The agent has become so."""
        if self.waits and state in _AS_GOOD_AS_ANYWHERE:
            self._announce()

    def _announce(self) -> None:
        self._announced = True
        self._on_ready()

    def failed(self, error: PlatformError) -> None:
        """An attempt to connect has failed."""
        refused = isinstance(error, ConnectError) and error.refused
        self._refusals = self._refusals + 1 if refused else 0
        if self.waits and self._refusals == REFUSALS:
            self._on_refused()

    async def restore(self) -> None:
        """Take up what waits in the journal, where that was not done and the agent is this process's.

        Raises:
            RegistryError: the journal cannot be read.
        """
        pipeline = self._agent.pipeline
        if self.waits or pipeline.restored:
            return
        if pipeline.standby.waits:
            await pipeline.standby.take_over(None, missed=True)
        else:
            await pipeline.restore()

    async def take_over(self, connection: Connection) -> None:
        """Wait, connected, until the agent is this process's own, then take it over; at once where it is.

        Raises:
            ConnectionLostError: the connection was lost. Changed: something else is wanted.
            RegistryError: the journal cannot be read.
        """
        standby, desired = self._agent.pipeline.standby, self._desired
        if not standby.waits:
            return
        await standby.joined()
        # Announced before this connection was there: its owner may have let go of it in between.
        missed = self._announced
        self._announce()
        while desired.standby:
            desired.change.clear()
            await desired.change.or_first_of(connection.closed)
            if connection.closed.done():
                raise ConnectionLostError(connection.closed.result())
            if desired.offline or not self._configuration.is_of(desired.record):
                raise Changed
        await standby.take_over(connection, missed=missed or desired.missed)
