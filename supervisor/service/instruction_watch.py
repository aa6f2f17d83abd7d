"""Keeps the platform's instructions for agents in the history: what each was told to be, and since when."""

from __future__ import annotations

from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import AgentNotFoundError, RegistryError
from supervisor.core.turns import Turns
from supervisor.fleet import Fleet
from supervisor.protocol.answers import Instruction
from supervisor.store.history import AgentHistory
from supervisor.telemetry.logs import get_logger

#: How often agents are looked at. An instruction is asked for anew once a minute at most, or comes with a token.
LOOK_SECONDS: Final = 5.0


class InstructionWatch:
    """Looks at what agents were told now and then: the database is asked only of what is new to this process."""

    def __init__(
        self,
        history: AgentHistory,
        fleet: Fleet,
        clock: Clock,
        turns: Turns,
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._history = history
        self._fleet = fleet
        self._clock = clock
        self._turns = turns
        self._look_seconds = look_seconds
        self._noted: dict[str, Instruction] = {}
        self._failing = False
        self._log = get_logger("supervisor.registry")

    async def run(self) -> None:
        """Note what changes, until cancelled; a history that cannot be written is tried again at the next look."""
        while True:
            try:
                await self._look()
                self._failing = False
            except RegistryError as error:
                if not self._failing:
                    self._log.warning("history_failed", reason=str(error))
                self._failing = True
            await self._clock.sleep(self._look_seconds)

    async def _look(self) -> None:
        told = {}
        async for agent_id in self._turns.each(self._fleet.agent_ids()):
            if (instruction := self._told(agent_id)) is not None:
                told[agent_id] = instruction
        new = {agent_id: one for agent_id, one in told.items() if one != self._noted.get(agent_id)}
        if new:
            await self._history.note_instructions(new)
        self._noted = told

    def _told(self, agent_id: str) -> Instruction | None:
        """What an agent was told to be; None while it has no token, or is gone meanwhile."""
        try:
            grant = self._fleet.runner(agent_id).agent.grant
        except AgentNotFoundError:
            return None
        return None if grant is None else grant.answer.instruction
