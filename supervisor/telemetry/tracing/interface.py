"""What the engine tells of a message's life, and what comes of it while there is no collector: nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from supervisor.core.clock import Clock
from supervisor.core.records import JournaledMessage, Reply
from supervisor.handler import ModelCall


@dataclass(frozen=True, slots=True)
class Collector:
    """Where traces go, by OTLP over HTTP.

    Args:
        url: the whole URL, its path included.
        headers: sent along; they may hold a key.
        resource: attributes of the resource, beside those that the supervisor gives itself.
        ca_file: certificate authorities to trust beside the system's.
        batch_seconds: the longest that an ended span waits for others to be sent with it.
        queue_limit: spans that wait; further ones are dropped.
    """

    url: str
    clock: Clock
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    resource: Mapping[str, str] = field(default_factory=dict)
    batch_seconds: float = 1.0
    queue_limit: int = 10_000


class AttemptTrace(Protocol):
    """One attempt at a message; its ``with`` blocks may be used in any task and thread of the handler."""

    @property
    def log_fields(self) -> Mapping[str, str]:
        """As :meth:`Traces.log_fields`."""
        ...

    @property
    def trace_id(self) -> str:
        """The message's, where it has a trace; else empty."""
        ...

    def model_call(self, call: ModelCall, provider: str) -> AbstractContextManager[None]:
        """A model works within."""
        ...

    def tool_call(self, name: str, call_id: str | None) -> AbstractContextManager[None]:
        """A tool works within."""
        ...

    def span(self, name: str) -> AbstractContextManager[None]:
        """Something that is worth a name goes on within."""
        ...

    def headers(self) -> dict[str, str]:
        """What an HTTP request has to carry so that whoever takes it goes on with the trace."""
        ...

    def fail(self, error: BaseException) -> None:
        """The handler raised this; its class is told, never its words."""
        ...

    def end(self, outcome: str) -> None:
        """It is over."""
        ...


class Traces(Protocol):
    """The traces of one agent's messages."""

    def log_fields(self, row: JournaledMessage) -> Mapping[str, str]:
        """What the lines of a message's log carry: ``trace_id``, where it has a trace."""
        ...

    def attempt(self, row: JournaledMessage) -> AttemptTrace:
        """An attempt at a message begins, in this task."""
        ...

    def replied(self, row: JournaledMessage, reply: Reply) -> None:
        """A reply to a message is on its way: its trace does not end before :meth:`sent`."""
        ...

    def sent(self, row: JournaledMessage, reply: Reply, sends: int) -> None:
        """A reply to a message is settled, after so many sends."""
        ...

    def settled(self, row: JournaledMessage) -> None:
        """A message is settled: its trace ends, or will with the last of its replies."""
        ...


class Tracing(Protocol):
    """The traces of all agents."""

    def of(self, agent_id: str, describe: Callable[[], tuple[str, str]]) -> Traces:
        """Those of one agent; ``describe`` is asked for its name, which may be empty, and its handler's reference."""
        ...

    async def close(self) -> None:
        """Send what is left, for two seconds at most."""
        ...


_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class _NoAttempt:
    log_fields: Mapping[str, str] = {}
    trace_id = ""

    def model_call(self, call: ModelCall, provider: str) -> AbstractContextManager[None]:  # noqa: ARG002 - promised
        return _NOTHING

    def tool_call(self, name: str, call_id: str | None) -> AbstractContextManager[None]:  # noqa: ARG002 - promised
        return _NOTHING

    def span(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - promised
        return _NOTHING

    def headers(self) -> dict[str, str]:
        return {}

    def fail(self, error: BaseException) -> None: ...
    def end(self, outcome: str) -> None: ...


_NO_ATTEMPT: Final = _NoAttempt()


class _NoTraces:
    def log_fields(self, row: JournaledMessage) -> Mapping[str, str]:  # noqa: ARG002 - promised
        return _NO_ATTEMPT.log_fields

    def attempt(self, row: JournaledMessage) -> AttemptTrace:  # noqa: ARG002 - promised
        return _NO_ATTEMPT

    def replied(self, row: JournaledMessage, reply: Reply) -> None: ...
    def sent(self, row: JournaledMessage, reply: Reply, sends: int) -> None: ...
    def settled(self, row: JournaledMessage) -> None: ...


NO_TRACES: Final[Traces] = _NoTraces()


class _NoTracing:
    def of(self, agent_id: str, describe: Callable[[], tuple[str, str]]) -> Traces:  # noqa: ARG002 - promised
        return NO_TRACES

    async def close(self) -> None: ...


NO_TRACING: Final[Tracing] = _NoTracing()
