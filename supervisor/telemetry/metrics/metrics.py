"""All instruments together, and what is read whenever somebody scrapes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from supervisor import __version__
from supervisor.core.clock import Clock, SystemClock
from supervisor.core.states import AgentState
from supervisor.core.status import Reading
from supervisor.telemetry.metrics.agent_families import DESCRIPTIONS
from supervisor.telemetry.metrics.agents import AgentSeries
from supervisor.telemetry.metrics.connections import ConnectionMetrics
from supervisor.telemetry.metrics.exposition import end, in_slices
from supervisor.telemetry.metrics.families import Description, Vocabulary, Workshop
from supervisor.telemetry.metrics.messages import MessageMetrics
from supervisor.telemetry.metrics.models import ModelMetrics
from supervisor.telemetry.metrics.replicas import ReplicaMetrics
from supervisor.telemetry.metrics.storage import StorageMetrics

HANDLERS: Final = 100
#: What the client library tells of the process, where there is a /proc (Linux).
PROCESS: Final = (
    Description("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", "bytes"),
    Description("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", "bytes"),
    Description(
        "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", "seconds"
    ),
    Description("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", "seconds"),
    Description("process_open_fds", "gauge", "Number of open file descriptors.", "descriptors"),
    Description("process_max_fds", "gauge", "Maximum number of open file descriptors.", "descriptors"),
)


class Metrics(ConnectionMetrics, MessageMetrics, StorageMetrics, ReplicaMetrics, ModelMetrics):
    """Every figure that the supervisor shows. All verbs are cheap and none of them fails.

    Args:
        agent_limit: how many agents have series of their own (``METRICS_AGENT_LIMIT``).
        clock: dates exemplars.
    """

    def __init__(self, *, agent_limit: int = 1000, clock: Clock | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._agents = AgentSeries(agent_limit)
        make = Workshop(self._registry)
        handlers = Vocabulary(HANDLERS)
        ConnectionMetrics.__init__(self, make)
        MessageMetrics.__init__(self, make, handlers, clock or SystemClock())
        StorageMetrics.__init__(self, make)
        ReplicaMetrics.__init__(self, make)
        ModelMetrics.__init__(self, make, handlers, self._agents)
        make.info(
            "supervisor_build_info",
            "Always 1; its labels are the versions of the supervisor and of Python that run.",
            version=__version__,
            python=platform.python_version(),
        )
        ProcessCollector(registry=self._registry)
        self._descriptions = (*make.descriptions, *PROCESS, *DESCRIPTIONS)

    def describe(self) -> tuple[Description, ...]:
        """All metrics, those without a series yet included, in the order of the answer."""
        return self._descriptions

    def agent_state(self, agent_id: str, old: AgentState | None, new: AgentState | None) -> None:  # noqa: ARG002
        """An agent changes its state; ``old`` None: it appears; ``new`` None: it is gone.

        The old state is the one of the last call, whatever ``old`` says: a call made twice cannot skew the figures.
        """
        self._agents.set_state(agent_id, new)

    def agent_removed(self, agent_id: str) -> None:
        """An agent is gone from the registry: its series disappear."""
        self._agents.remove(agent_id)

    def auth_expiry(self, agent_id: str, timestamp: float) -> None:
        """An agent has a token that expires at ``timestamp``, seconds since the epoch."""
        self._agents.set_expiry(agent_id, timestamp)

    def bind_budgets(self, ratios: Callable[[], tuple[float | None, Mapping[str, float]]]) -> None:
        """Read the used parts of the budgets at each scrape.

        Args:
            ratios: the fleet's, None without a budget, and those of agents by their ids; 1 is all of it.
        """
        self._agents.budgets = ratios

    def bind_agents(
        self,
        read: Callable[[str], Reading | None],
        clock: Clock,
        describe: Callable[[str], tuple[str, str] | None] = lambda _agent_id: None,
    ) -> None:
        """Read each agent's messages, replies and health, and its name and handler, at each scrape.

        Args:
            read, describe: given an agent's id; None: it is gone.
        """
        self._agents.read, self._agents.clock, self._agents.describe = read, clock, describe

    def slices(self, accept: str) -> tuple[Iterator[bytes], str]:
        """All figures, some hundred series a step, so that the event loop can run in between.

        Args:
            accept: the ``Accept`` header: OpenMetrics when it asks for it, else Prometheus' text format.

        Returns:
            The pieces of the answer, and its content type.
        """
        if "application/openmetrics-text" in accept:
            return self._slices(modern=True), openmetrics.CONTENT_TYPE_LATEST
        return self._slices(modern=False), CONTENT_TYPE_PLAIN_0_0_4

    def _slices(self, *, modern: bool) -> Iterator[bytes]:
        self._count_lost_lines()
        for family in self._registry.collect():
            yield from in_slices(family, modern=modern)
        yield from self._agents.slices(modern=modern)
        yield end(modern=modern)

    def render(self, accept: str) -> tuple[bytes, str]:
        """All figures at once: the answer and its content type."""
        pieces, content_type = self.slices(accept)
        return b"".join(pieces), content_type
