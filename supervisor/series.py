"""The series of agents: bounded in number, and none left of an agent that is gone (DESIGN §6)."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from supervisor.states import AgentState
from supervisor.status import InboxCounts

#: Stands for whatever is past a limit: further agents, handlers, models, reasons.
OTHER = "_other"
USAGE_HELP = "input and output make the total; cached is the part of input that came from a cache."


class AgentSeries(Collector):
    """The series of agents, made when somebody asks: an agent that is gone leaves nothing behind.

    The first ``limit`` agents have series of their own; a place that becomes free goes to the next new agent.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._states: dict[str, AgentState] = {}
        self._expiry: dict[str, float] = {}
        self._own: set[str] = set()
        self._tokens: dict[str, dict[str, float]] = {}
        self._counting = threading.Lock()  # guards the tokens: handlers report them from threads too
        self.inbox: Callable[[], Mapping[str, InboxCounts]] | None = None
        self.oldest_seconds: Callable[[], float] | None = None
        self.budgets: Callable[[], tuple[float | None, Mapping[str, float]]] | None = None

    def set_state(self, agent_id: str, state: AgentState | None) -> None:
        """An agent is in ``state``; None: it is gone."""
        if state is None:
            self._states.pop(agent_id, None)
            return
        if agent_id not in self._states and len(self._own) < self._limit:
            self._own.add(agent_id)
        self._states[agent_id] = state

    def set_expiry(self, agent_id: str, timestamp: float) -> None:
        """An agent's token expires then, seconds since the epoch."""
        if agent_id in self._states:
            self._expiry[agent_id] = timestamp

    def add_tokens(self, agent_id: str, kind: str, count: int) -> None:
        """An agent has used LLM tokens of one kind. May be called from any thread."""
        with self._counting:
            tally = self._tokens.setdefault(self._label(agent_id), {})
            tally[kind] = tally.get(kind, 0.0) + count

    def remove(self, agent_id: str) -> None:
        """Nothing of an agent stays."""
        self._states.pop(agent_id, None)
        self._expiry.pop(agent_id, None)
        if agent_id in self._own:
            with self._counting:
                self._own.remove(agent_id)
                self._tokens.pop(agent_id, None)

    def _label(self, agent_id: str) -> str:
        return agent_id if agent_id in self._own else OTHER

    def collect(self) -> Iterable[Metric]:
        """The families, for whoever scrapes."""
        # Each family is complete before it is handed out: the loop may run, and agents come and go, in between.
        yield self._agents()
        yield self._up()
        yield self._auth_expiry()
        yield self._llm_tokens()
        fleet, agents = self.budgets() if self.budgets else (None, {})
        yield _budgets(fleet, agents)
        yield self._agent_budgets(agents)
        counts = dict(self.inbox()) if self.inbox else {}
        yield _inbox_messages(counts)
        yield self._agent_inbox(counts)
        oldest = self.oldest_seconds() if self.oldest_seconds else 0.0
        yield GaugeMetricFamily(
            "supervisor_inbox_oldest_seconds", "Age of the oldest message that waits for its handler, seconds.", oldest
        )

    def _agents(self) -> Metric:
        family = GaugeMetricFamily("supervisor_agents", "Agents in each state.", labels=["state"])
        tally = Tally(self._states.values())
        for state in AgentState:
            family.add_metric([state.value], tally[state])
        return family

    def _up(self) -> Metric:
        totals: dict[str, float] = {}
        for agent_id, state in self._states.items():
            label = self._label(agent_id)
            totals[label] = totals.get(label, 0.0) + (state is AgentState.ONLINE)
        return _by_agent(
            "supervisor_agent_up", f"1 while the agent is online, else 0; {OTHER}: how many others are.", totals
        )

    def _auth_expiry(self) -> Metric:
        soonest: dict[str, float] = {}
        for agent_id, timestamp in self._expiry.items():
            label = self._label(agent_id)
            soonest[label] = min(timestamp, soonest.get(label, timestamp))
        return _by_agent(
            "supervisor_agent_auth_expiry_timestamp_seconds",
            f"When the agent's token expires, seconds since the epoch; {OTHER}: the soonest of the others.",
            soonest,
        )

    def _llm_tokens(self) -> Metric:
        family = CounterMetricFamily(
            "supervisor_agent_llm_tokens", f"LLM tokens of the agent, by type. {USAGE_HELP}", labels=["agent", "type"]
        )
        with self._counting:
            for label, tally in self._tokens.items():
                for kind, total in tally.items():
                    family.add_metric([label, kind], total)
        return family

    def _agent_budgets(self, ratios: Mapping[str, float]) -> Metric:
        most: dict[str, float] = {}
        for agent_id, ratio in ratios.items():
            if agent_id in self._states:
                label = self._label(agent_id)
                most[label] = max(ratio, most.get(label, 0.0))
        return _by_agent(
            "supervisor_agent_budget_used_ratio",
            f"The part of the agent's own budget of today that is used; {OTHER}: the highest of the others.",
            most,
        )

    def _agent_inbox(self, counts: Mapping[str, InboxCounts]) -> Metric:
        totals: dict[str, float] = {self._label(agent_id): 0.0 for agent_id in self._states}
        for agent_id, count in counts.items():
            if agent_id in self._states:
                totals[self._label(agent_id)] += count.available + count.running
        return _by_agent(
            "supervisor_agent_inbox_messages",
            f"Messages of the agent that wait or run; {OTHER}: of the others.",
            totals,
        )


def _by_agent(name: str, help_text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=["agent"])
    for agent_id, value in values.items():
        family.add_metric([agent_id], value)
    return family


def _budgets(fleet: float | None, agents: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(
        "supervisor_budget_used_ratio",
        "The part of today's budget that is used: the fleet's, and the highest of the agents' own.",
        labels=["scope"],
    )
    if fleet is not None:
        family.add_metric(["fleet"], fleet)
    if agents:
        family.add_metric(["agent"], max(agents.values()))
    return family


def _inbox_messages(counts: Mapping[str, InboxCounts]) -> Metric:
    family = GaugeMetricFamily(
        "supervisor_inbox_messages",
        "Messages in the journal, by state; those to be tried again count as available.",
        labels=["state"],
    )
    family.add_metric(["available"], sum(count.available for count in counts.values()))
    family.add_metric(["running"], sum(count.running for count in counts.values()))
    family.add_metric(["dead"], sum(count.dead for count in counts.values()))
    return family
