"""What people want done to agents and messages, done by the replica that runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from supervisor.core.actors import acting
from supervisor.core.errors import (
    AgentNotFoundError,
    MessageNotFoundError,
    MessageStateError,
    RegistryError,
    SupervisorError,
)
from supervisor.core.replicas import Replica
from supervisor.management.messages import Outcome
from supervisor.service.control import Control
from supervisor.service.fleetwide.others import Others
from supervisor.service.fleetwide.questions import Act, Settle, Settled
from supervisor.store import Registry

#: What was asked to do something has so long to do it.
ACT_SECONDS: Final = 10.0
#: Done by the row alone, should the replica not answer: it follows the row once it can.
_BY_ROW: Final = frozenset({"pause", "resume"})


class Actions:
    """Does what is asked for, here or elsewhere.

    Args:
        own: this replica.
    """

    def __init__(self, own: Control, registry: Registry, others: Others) -> None:
        self._own = own
        self._registry = registry
        self._others = others

    async def act(self, action: str, agent_id: str) -> None:
        """Pause, resume or reload one agent.

        Raises:
            AgentNotFoundError: there is none of that id.
            SupervisorError: it could not be done; says why.
        """
        if not self._others.shared:
            await {"pause": self._own.pause, "resume": self._own.resume, "reload": self._own.reload}[action](agent_id)
        elif refused := await self.act_on(action, [agent_id]):
            raise SupervisorError(refused[agent_id])

    async def act_on(self, action: str, agent_ids: Sequence[str]) -> dict[str, str]:
        """Do the same to many agents; those to which it could not be done, each with the reason."""
        # A row is removed wherever; whoever runs the agent sees that it is gone.
        elsewhere = await self._others.of(agent_ids) if action != "remove" else {}
        theirs = {one for _, ids in elsewhere.values() for one in ids}
        here = [one for one in agent_ids if one not in theirs]
        refused: dict[str, str] = {}

        async def ask(replica: Replica, ids: list[str]) -> None:
            try:
                asked = Act(action, ids, acting())
                answer = await self._others.ask_for(replica, dict[str, str], "act", asked, seconds=ACT_SECONDS)
            except SupervisorError as error:
                if action in _BY_ROW:
                    here.extend(ids)
                else:
                    refused.update(dict.fromkeys(ids, str(error)))
            else:
                refused.update(answer)

        await asyncio.gather(*(ask(*one) for one in elsewhere.values()))
        if action == "reload" and self._others.shared:
            refused |= {one: f"No replica runs agent {one} yet; try again" for one in here if not self._runs(one)}
            here = [one for one in here if one not in refused]
        return refused | (await self._own.act_on(action, here) if here else {})

    def _runs(self, agent_id: str) -> bool:
        """Whether this replica runs an agent."""
        try:
            self._own.status(agent_id)
        except AgentNotFoundError:
            return False
        return True

    async def settle(self, action: str, number: int) -> None:
        """Replay, discard or cancel one message; raises MessageNotFoundError, MessageStateError, RegistryError."""
        if not self._others.shared:
            await {"replay": self._own.replay, "discard": self._own.discard, "cancel": self._own.cancel}[action](number)
            return
        [outcome] = await self.settle_all(action, [number])
        if outcome.refused is not None:
            raise outcome.refused

    async def settle_all(self, action: str, numbers: Sequence[int]) -> list[Outcome]:
        """Replay, discard or cancel many messages; what became of each, in the order of their numbers."""
        elsewhere = await self._elsewhere(numbers)
        theirs = {number for _, some in elsewhere for number in some}
        here = [number for number in numbers if number not in theirs]
        outcomes: list[Outcome] = []

        async def ask(replica: Replica, some: dict[int, str]) -> None:
            try:
                asked = Settle(action, list(some), acting())
                answer = await self._others.ask_for(replica, list[Settled], "settle", asked, seconds=ACT_SECONDS)
                outcomes.extend(map(_outcome, answer))
            except SupervisorError as error:
                if action != "cancel":
                    # What has ended runs nowhere; the replica finds what runs again.
                    here.extend(some)
                    return
                refused = RegistryError(f"{error}; it alone can cancel what it runs: try again")
                outcomes.extend(Outcome(number, agent_id, refused) for number, agent_id in some.items())

        await asyncio.gather(*(ask(*one) for one in elsewhere))
        outcomes += await self._own.settle_all(action, here) if here else []
        return sorted(outcomes, key=lambda outcome: outcome.number)

    async def _elsewhere(self, numbers: Sequence[int]) -> list[tuple[Replica, dict[int, str]]]:
        """The other replicas whose agents have some of these messages, each with those and their agents."""
        if not await self._others.replicas():
            return []
        agents: dict[int, str] = {}
        for number in dict.fromkeys(numbers):
            if (row := await self._registry.journal.load(number)) is not None:
                agents[number] = row.agent_id
        owners = await self._others.of(list(dict.fromkeys(agents.values())))
        return [
            (replica, {number: one for number, one in agents.items() if one in ids}) for replica, ids in owners.values()
        ]


def _outcome(settled: Settled) -> Outcome:
    refused: RegistryError | None = None
    if settled.kind == MessageNotFoundError.__name__:
        refused = MessageNotFoundError(settled.number)
    elif settled.kind == MessageStateError.__name__:
        refused = MessageStateError(settled.text)
    elif settled.kind:
        refused = RegistryError(settled.text)
    return Outcome(settled.number, settled.agent_id, refused)
