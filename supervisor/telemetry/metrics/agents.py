"""The series of agents: bounded in number, and none left of an agent that is gone."""

from __future__ import annotations

import math
import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from operator import add
from typing import Final

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.states import AgentState, ReplyState
from supervisor.core.status import Reading
from supervisor.telemetry.metrics.agent_families import (
    AGENT_BUDGET,
    AGENT_COST,
    AGENT_INBOX,
    AGENT_TOKENS,
    AGENTS,
    BUDGETS,
    CONNECTING_OLDEST,
    EXPIRY,
    FAILING,
    INBOX,
    INFO,
    OLDEST,
    OUTBOX,
    TROUBLE,
    UNJOINED,
    UP,
)
from supervisor.telemetry.metrics.exposition import Row, label, written
from supervisor.telemetry.metrics.families import OTHER, Description

#: An id that is longer has no series of its own: the platform's have 24 characters.
MAX_AGENT_CHARS: Final = 128
#: What of an agent's name and handler is shown.
MAX_INFO_CHARS: Final = 64
#: States that need somebody, and what an agent is whose health is failing.
_TROUBLES: Final = frozenset({AgentState.REJECTED, AgentState.FAULTED})
FAILING_TROUBLE: Final = "failing"
KINDS: Final = ("input", "output", "cached")
#: On its way to be online, waiting for the next attempt included.
_ON_ITS_WAY: Final = frozenset(
    {AgentState.AUTHENTICATING, AgentState.CONNECTING, AgentState.REGISTERING, AgentState.BACKOFF}
)


class _Spent:
    """LLM tokens by kind, and cost; None until there is something to say."""

    __slots__ = ("cost", "tokens")

    def __init__(self) -> None:
        self.tokens: list[float] | None = None
        self.cost: float | None = None

    def add_tokens(self, kind: str, count: float) -> None:
        if self.tokens is None:
            self.tokens = [0.0] * len(KINDS)
        self.tokens[KINDS.index(kind)] += count

    def add_cost(self, amount: float) -> None:
        self.cost = (self.cost or 0.0) + amount


class _Agent(_Spent):
    """What is known of one agent; ``own``: whether it has series of its own."""

    __slots__ = ("expires_at", "id", "labels", "own", "state")

    def __init__(self, agent_id: str, state: AgentState, *, own: bool) -> None:
        super().__init__()
        self.id = agent_id
        self.state = state
        self.own = own
        self.labels = label("agent", agent_id) if own else ""
        self.expires_at: float | None = None


_OTHER_LABELS: Final = label("agent", OTHER)


class AgentSeries:
    """The series of agents, made when somebody asks: an agent that is gone leaves nothing behind.

    The first ``limit`` agents have series of their own; a place that becomes free goes to the next new agent.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._own = 0
        self._agents: dict[str, _Agent] = {}
        # When each agent that is on its way began, the oldest first.
        self._began_at: dict[str, float] = {}
        self._others = _Spent()
        self._counting = threading.Lock()  # guards tokens and cost: handlers report them from threads too
        self.read: Callable[[str], Reading | None] = lambda _agent_id: None
        self.describe: Callable[[str], tuple[str, str] | None] = lambda _agent_id: None
        self.clock: Clock = SystemClock()
        self.budgets: Callable[[], tuple[float | None, Mapping[str, float]]] | None = None

    def set_state(self, agent_id: str, state: AgentState | None) -> None:
        """An agent is in ``state``; None: it is gone."""
        agent = self._agents.get(agent_id)
        if state in _ON_ITS_WAY:
            self._began_at.setdefault(agent_id, self.clock.monotonic())
        else:
            self._arrived(agent_id)
        if state is None:
            self.remove(agent_id)
        elif agent is not None:
            agent.state = state
        else:
            own = self._own < self._limit and 0 < len(agent_id) <= MAX_AGENT_CHARS and agent_id != OTHER
            self._own += own
            self._agents[agent_id] = _Agent(agent_id, state, own=own)

    def _arrived(self, agent_id: str) -> None:
        self._began_at.pop(agent_id, None)
        if not self._began_at:
            # An emptied dict keeps its size, and searches all of it for its first key.
            self._began_at = {}

    def set_expiry(self, agent_id: str, timestamp: float) -> None:
        """An agent's token expires then, seconds since the epoch."""
        if (agent := self._agents.get(agent_id)) is not None and math.isfinite(timestamp):
            agent.expires_at = timestamp

    def add_tokens(self, agent_id: str, kind: str, count: float) -> None:
        """An agent has used ``count`` LLM tokens; ``kind``: input, output or cached. May be called from any thread."""
        with self._counting:
            if (spent := self._spent(agent_id)) is not None:
                spent.add_tokens(kind, count)

    def add_cost(self, agent_id: str, amount: float) -> None:
        """An agent has spent ``amount``, in the currency of the prices. May be called from any thread."""
        with self._counting:
            if (spent := self._spent(agent_id)) is not None:
                spent.add_cost(amount)

    def _spent(self, agent_id: str) -> _Spent | None:
        """Where an agent's spending is counted; None of one that is gone: it would come back as somebody else's."""
        agent = self._agents.get(agent_id)
        return agent if agent is None or agent.own else self._others

    def remove(self, agent_id: str) -> None:
        """Nothing of an agent stays, nor of the others once the last of them is gone."""
        self._arrived(agent_id)
        with self._counting:
            agent = self._agents.pop(agent_id, None)
            if agent is not None:
                self._own -= agent.own
            if len(self._agents) == self._own:
                self._others = _Spent()
            if not self._agents:
                # An emptied dict keeps its size.
                self._agents = {}

    def slices(self, *, modern: bool) -> Iterator[bytes]:
        """All families, read as they are written: agents may come and go in between."""
        for description, rows in self._families():
            yield from written(description, rows, modern=modern)

    def _families(self) -> Iterator[tuple[Description, Iterator[Row | None]]]:
        yield AGENTS, self._states()
        yield UP, self._by_agent(lambda agent: agent.state is AgentState.ONLINE, add)
        yield EXPIRY, self._by_agent(lambda agent: agent.expires_at, min)
        yield AGENT_TOKENS, self._tokens()
        yield AGENT_COST, self._costs()
        fleet, ratios = self.budgets() if self.budgets else (None, {})
        yield BUDGETS, _budgets(fleet, ratios)
        yield AGENT_BUDGET, self._by_agent(lambda agent: ratios.get(agent.id), max)
        sums = _Sums()
        failing: set[str] = set()
        yield AGENT_INBOX, self._by_agent(lambda agent: self._inbox(agent, sums, failing), add)
        yield INBOX, sums.inbox()
        yield OLDEST, iter([("", 0.0 if sums.oldest_at is None else max(0.0, self.clock.now() - sums.oldest_at))])
        yield OUTBOX, sums.outbox()
        yield FAILING, iter([("", sums.failing)])
        yield UNJOINED, iter([("", sums.unjoined)])
        yield CONNECTING_OLDEST, iter([("", self._longest_way_seconds())])
        yield INFO, self._infos()
        yield TROUBLE, self._troubles(failing)

    def _inbox(self, agent: _Agent, sums: _Sums, failing: set[str]) -> float:
        """An agent's messages that wait or run; it is noted where its health is failing."""
        reading = self.read(agent.id)
        if reading is not None and reading.failing:
            failing.add(agent.id)
        return sums.take(reading)

    def _infos(self) -> Iterator[Row | None]:
        for agent in list(self._agents.values()):
            described = self.describe(agent.id) if agent.own else None
            yield None if described is None else (f"{agent.labels},{_described(*described)}", 1)

    def _troubles(self, failing: set[str]) -> Iterator[Row | None]:
        others: Tally[str] = Tally()
        for agent in list(self._agents.values()):
            troubles = [str(agent.state)] if agent.state in _TROUBLES else []
            troubles += [FAILING_TROUBLE] if agent.id in failing else []
            yield None
            for trouble in troubles:
                if agent.own:
                    yield f"{agent.labels},{label('trouble', trouble)}", 1
                else:
                    others[trouble] += 1
        for trouble, count in sorted(others.items()):
            yield f"{_OTHER_LABELS},{label('trouble', trouble)}", count

    def _longest_way_seconds(self) -> float:
        began_at = next(iter(self._began_at.values()), None)
        return 0.0 if began_at is None else max(0.0, self.clock.monotonic() - began_at)

    def _by_agent(
        self, value_of: Callable[[_Agent], float | None], merge: Callable[[float, float], float]
    ) -> Iterator[Row | None]:
        """A series for each agent of which there is something to say, and one for all others together."""
        others: float | None = None
        for agent in list(self._agents.values()):
            value = value_of(agent)
            if value is not None and agent.own:
                yield agent.labels, value
                continue
            if value is not None:
                others = value if others is None else merge(others, value)
            yield None
        if others is not None:
            yield _OTHER_LABELS, others

    def _states(self) -> Iterator[Row]:
        tally = Tally(agent.state for agent in self._agents.values())
        for state in AgentState:
            yield label("state", state.value), tally[state]

    def _tokens(self) -> Iterator[Row | None]:
        others = self._others
        for labels, spent in (*((a.labels, a) for a in list(self._agents.values())), (_OTHER_LABELS, others)):
            if spent.tokens is not None:
                for kind, total in zip(KINDS, spent.tokens, strict=True):
                    yield f'{labels},type="{kind}"', total
            else:
                yield None

    def _costs(self) -> Iterator[Row | None]:
        yield from self._by_agent(lambda agent: agent.cost, add)
        if (cost := self._others.cost) is not None:
            yield _OTHER_LABELS, cost


def _described(name: str, handler: str) -> str:
    return f"{label('name', name[:MAX_INFO_CHARS])},{label('handler', handler[:MAX_INFO_CHARS])}"


def _budgets(fleet: float | None, agents: Mapping[str, float]) -> Iterator[Row]:
    if fleet is not None:
        yield label("scope", "fleet"), fleet
    if agents:
        yield label("scope", "agent"), max(agents.values())


class _Sums:
    """All agents' readings together, gathered while those of each are written."""

    def __init__(self) -> None:
        self.oldest_at: float | None = None
        self.failing = self.unjoined = 0
        self._available = self._running = self._dead = self._pending = self._sent = 0

    def take(self, reading: Reading | None) -> float:
        """Add one agent's; its messages that wait or run."""
        if reading is None:
            return 0.0
        inbox, oldest_at, pending, sent, failing, unjoined = reading
        if oldest_at is not None and (self.oldest_at is None or oldest_at < self.oldest_at):
            self.oldest_at = oldest_at
        self.failing += failing
        self.unjoined += unjoined
        self._pending += pending
        self._sent += sent
        self._available += inbox.available
        self._running += inbox.running
        self._dead += inbox.dead
        return inbox.available + inbox.running

    def inbox(self) -> Iterator[Row]:
        """The messages by state."""
        yield label("state", "available"), self._available
        yield label("state", "running"), self._running
        yield label("state", "dead"), self._dead

    def outbox(self) -> Iterator[Row]:
        """The replies by state."""
        yield label("state", ReplyState.PENDING), self._pending
        yield label("state", ReplyState.SENT), self._sent
