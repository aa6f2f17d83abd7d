"""What replicas ask each other, and how each answers it: of its own agents, and nothing that has text of messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Self, TypeVar

import msgspec

from supervisor.core.actors import Actor, acting_as
from supervisor.core.errors import AgentNotFoundError
from supervisor.core.status import AgentStatus
from supervisor.management.messages import Outcome
from supervisor.management.selection import Selector
from supervisor.peers import BEAT_SECONDS, Answer
from supervisor.service.control import Control
from supervisor.telemetry.events import Event, Kind, Wanted
from supervisor.telemetry.redaction import mask
from supervisor.telemetry.telling import tell

T = TypeVar("T")
#: Agents in one piece of an answer: what is encoded in one turn of the event loop.
AT_ONCE: Final = 250


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody wants done to agents."""

    action: str
    agent_ids: list[str]
    actor: Actor


@dataclass(frozen=True, slots=True)
class Settle:
    """What somebody wants done to messages."""

    action: str
    numbers: list[int]
    actor: Actor


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one message; ``kind`` and ``text`` are those of the error that refused it."""

    number: int
    agent_id: str
    kind: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Follow:
    """Which events somebody wants, as :meth:`supervisor.admin.AdminService.happened` takes it.

    Args:
        kinds, level, text, since: as :class:`~supervisor.telemetry.events.Wanted` has them.
        after: the number of the last event that is known; None for a follower that is new.
    """

    agent: str | None
    kinds: list[str]
    level: str
    text: str
    since: float
    selected: Selector
    last: int
    follow: bool
    after: int | None

    @classmethod
    def of(cls, wanted: Wanted, selected: Selector, *, last: int, follow: bool, after: int | None) -> Self:
        """The question for the events that ``wanted`` names."""
        kinds = list(map(str, wanted.kinds))
        return cls(wanted.agent, kinds, wanted.level, wanted.text, wanted.since, selected, last, follow, after)

    @property
    def wanted(self) -> Wanted:
        """The events that are asked for, but for whose they are."""
        kinds: list[Kind] = ["log" if kind == "log" else "state" for kind in self.kinds]
        return Wanted(self.agent, kinds, self.level, self.text, self.since)


@dataclass(frozen=True, slots=True)
class Happened:
    """Some events of one replica.

    Args:
        up_to: the number up to which that is all.
        events: the number, kind and agent of each, and its fields.
    """

    up_to: int
    missed: int
    events: list[tuple[int, str, str, msgspec.Raw]]


def answers_of(control: Control) -> Mapping[str, Answer]:
    """What others can ask of this replica."""
    replica = _Answers(control)
    return {
        "overview": replica.overview,
        "statuses": replica.statuses,
        "status": replica.status,
        "activity": replica.activity,
        "conversations": replica.conversations,
        "act": replica.act,
        "settle": replica.settle,
        "events": replica.events,
    }


class _Answers:
    def __init__(self, control: Control) -> None:
        self._control = control

    async def overview(self, _arguments: bytes) -> AsyncGenerator[bytes]:
        yield _encoded(self._control.overview())

    async def statuses(self, _arguments: bytes) -> AsyncGenerator[bytes]:
        some: list[AgentStatus] = []
        async for status in self._control.each_status():
            some.append(_masked(status))
            if len(some) == AT_ONCE:
                yield _encoded(some)
                some.clear()
        yield _encoded(some)

    async def status(self, arguments: bytes) -> AsyncGenerator[bytes]:
        yield _encoded(_masked(self._control.status(_read(arguments, str))))

    async def activity(self, arguments: bytes) -> AsyncGenerator[bytes]:
        yield _encoded(self._control.insight.activity(_read(arguments, str)))

    async def conversations(self, arguments: bytes) -> AsyncGenerator[bytes]:
        yield _encoded(self._control.insight.conversations(_read(arguments, str)))

    async def act(self, arguments: bytes) -> AsyncGenerator[bytes]:
        asked = _read(arguments, Act)
        with acting_as(asked.actor):
            refused = await self._control.act_on(asked.action, asked.agent_ids)
        yield _encoded(refused)

    async def settle(self, arguments: bytes) -> AsyncGenerator[bytes]:
        asked = _read(arguments, Settle)
        with acting_as(asked.actor):
            outcomes = await self._control.settle_all(asked.action, asked.numbers)
        yield _encoded([_settled(one) for one in outcomes])

    async def events(self, arguments: bytes) -> AsyncGenerator[bytes]:
        asked = _read(arguments, Follow)
        wanted = only(self._control, asked.wanted, asked.selected)
        told = tell(
            self._control.events,
            wanted,
            last=asked.last,
            follow=asked.follow,
            after=asked.after,
            heartbeat_seconds=BEAT_SECONDS,
        )
        async with aclosing(told):
            async for batch, up_to in told:
                events = [(one.number, str(one.kind), one.agent, msgspec.Raw(one.data)) for one in batch.events]
                yield _encoded(Happened(up_to, batch.missed, events))


def only(control: Control, wanted: Wanted, selected: Selector) -> Wanted:
    """Those of ``wanted`` that concern the agents that are selected, as they are then."""

    def is_selected(agent_id: str) -> bool:
        try:
            return control.status(agent_id) in selected
        except AgentNotFoundError:
            return False

    return replace(wanted, agents=is_selected) if selected else wanted


def event_of(found: tuple[int, str, str, msgspec.Raw]) -> Event:
    """An event as another replica told it."""
    number, kind, agent, data = found
    return Event(number, "log" if kind == "log" else "state", agent, bytes(data))


def _masked(status: AgentStatus) -> AgentStatus:
    return replace(status, settings=mask(status.settings)) if status.settings else status


def _settled(outcome: Outcome) -> Settled:
    error = outcome.refused
    if error is None:
        return Settled(outcome.number, outcome.agent_id)
    return Settled(outcome.number, outcome.agent_id, type(error).__name__, str(error))


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value)


def _read(arguments: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(arguments, type=kind)
