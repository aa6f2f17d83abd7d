"""What can go wrong, as one tree, and what each kind of trouble asks for.

SupervisorError                 what a person reads: one line, with what to do next
├── ConfigurationError          a setting, a file or an argument is wrong
│   └── SeveralProblemsError    several of them are
├── RegistryError               the registry refuses: unknown or duplicate agent, newer schema, corrupt file
│   ├── AgentExistsError
│   ├── AgentNotFoundError
│   ├── AmbiguousAgentError     what was typed stands for several agents
│   ├── MessageNotFoundError
│   ├── MessageStateError       only a dead letter can be replayed or discarded
│   └── RegistryLockedError     another supervisor runs on this registry
├── HandlerError                a handler cannot be found or loaded, or returned what cannot be sent
│   └── InvalidReplyError
└── PlatformError               the platform or the way to it; carries a Verdict and perhaps a Retry-After
    ├── TokenError              the token endpoint did not give a token
    ├── ConnectError            no registered connection came of an attempt
    ├── ConnectionLostError     a connection that was open is no more; an event in flight is ambiguous
    ├── AckTimeoutError         an event was written and never acknowledged
    └── SendRefusedError        the platform answered a send with an error
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

#: So many agents are named in one line.
_NAMED: Final = 10
#: So many things that are wrong are told at once.
_PROBLEMS: Final = 20


class Verdict(StrEnum):
    """What a failure asks for: the one classification that every failure of the platform gets.

    RETRY: the platform's or the network's trouble; try again with backoff.
    REAUTHENTICATE: the token may be at fault; get a new one, then try once more.
    REJECT: the platform refuses this agent; retried slowly, or at once when its row changes.
    FAULT: this agent cannot run as it is configured; waits for its row to be mended.
    """

    RETRY = "retry"
    REAUTHENTICATE = "reauthenticate"
    REJECT = "reject"
    FAULT = "fault"


class Refusal(StrEnum):
    """Why the platform will not have an agent, where it said so beyond doubt.

    SUSPENDED: somebody stopped the agent there; it may be started again at any time. To be asked again costs the
    platform next to nothing: it looks at this before the secret.
    UNKNOWN: the platform knows no such agent, or it was deleted.
    """

    SUSPENDED = "suspended"
    UNKNOWN = "unknown"


class SupervisorError(Exception):
    """A failure worded for the person who has to act on it: what happened, to what, and what to do."""


class ConfigurationError(SupervisorError):
    """A setting, a file or an argument is wrong."""


class SeveralProblemsError(ConfigurationError):
    """Several things are wrong; in one line, or one by one.

    Args:
        problems: each in a line.

    Attributes:
        problems: the first of them, and how many there are besides.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        more = [f"and {len(problems) - _PROBLEMS} more"] if len(problems) > _PROBLEMS else []
        self.problems = [*problems[:_PROBLEMS], *more]
        super().__init__("; ".join(self.problems))


class RegistryError(SupervisorError):
    """The registry cannot do what was asked."""


class AgentExistsError(RegistryError):
    """An agent of that id is registered already."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"Agent {agent_id} is registered already; change it with: supervisor agents update {agent_id}")


class AgentNotFoundError(RegistryError):
    """No agent of that id is registered.

    Args:
        advice: what to do instead.
    """

    def __init__(self, agent_id: str, advice: str = "see: supervisor agents list") -> None:
        super().__init__(f"No agent {agent_id} is registered; {advice}")


class AmbiguousAgentError(RegistryError):
    """What somebody typed stands for several agents.

    Args:
        text: what was typed.
        agents: the id and the name of each that it may stand for.
    """

    def __init__(self, text: str, agents: Sequence[tuple[str, str]]) -> None:
        named = [f"{agent_id} ({name})" if name else agent_id for agent_id, name in agents[:_NAMED]]
        more = f" and {len(agents) - _NAMED} more" if len(agents) > _NAMED else ""
        super().__init__(f"{text!r} stands for {len(agents)} agents: {', '.join(named)}{more}; write more of it")


class MessageNotFoundError(RegistryError):
    """The journal has no message of that number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"There is no message {number}; see: supervisor messages list")


class MessageStateError(RegistryError):
    """A message cannot be replayed or discarded as it stands."""


class RegistryLockedError(RegistryError):
    """Another supervisor runs on this registry (docs/architecture.md#one-process)."""


class ReplicaError(RegistryError):
    """What is asked of a replica cannot be: there is none of that number, or nobody to give its agents to."""


class RegistryNotFoundError(RegistryError):
    """There is no registry at that URL yet."""


class HandlerError(SupervisorError):
    """A handler cannot be found or loaded."""


class HandlerNotFoundError(HandlerError):
    """The folder of handlers holds none of that name."""


class InvalidReplyError(HandlerError):
    """A handler returned something that cannot be sent; the platform would refuse it (docs/protocol.md#4-sending)."""


class PlatformError(SupervisorError):
    """The platform, or the way to it, failed.

    Args:
        reason: one line for status, logs and people; never holds a token or a secret.
        verdict: what the failure asks for.
        retry_after_seconds: how long the platform asked us to wait, where it did.
        refusal: why it will not have the agent, where it said so.
    """

    def __init__(
        self,
        reason: str,
        verdict: Verdict = Verdict.RETRY,
        *,
        retry_after_seconds: float | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refusal = refusal
        self.verdict = verdict
        self.retry_after_seconds = retry_after_seconds

    @property
    def suspended(self) -> bool:
        """Whether the platform said that the agent is suspended."""
        return self.refusal is Refusal.SUSPENDED


class TokenError(PlatformError):
    """The token endpoint did not give a token (docs/protocol.md#1-tokens)."""


class ConnectError(PlatformError):
    """An attempt to connect did not end in a registered connection (docs/protocol.md#3-acceptance).

    ``invalid_namespace`` tells the one refusal that another namespace may cure; ``kicked`` a DISCONNECT right after
    the CONNECT ack, which a bad token and an ill platform cause alike; ``refused`` that the platform said no by either;
    ``deaf`` that it connected and was never registered; ``wrong_path`` that what answered may be no gateway, and
    ``no_engine`` that it certainly is none; ``unanswered`` that the upgrade was neither taken nor refused, which is
    what the platform does at a wrong path (docs/protocol.md#711-a-wrong-engine-path).
    """

    def __init__(
        self,
        reason: str,
        verdict: Verdict = Verdict.RETRY,
        *,
        invalid_namespace: bool = False,
        kicked: bool = False,
        refused: bool = False,
        deaf: bool = False,
        wrong_path: bool = False,
        no_engine: bool = False,
        unanswered: bool = False,
        retry_after_seconds: float | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(reason, verdict, retry_after_seconds=retry_after_seconds, refusal=refusal)
        self.invalid_namespace = invalid_namespace
        self.deaf = deaf
        self.wrong_path = wrong_path or no_engine
        self.no_engine = no_engine
        self.unanswered = unanswered
        self.kicked = kicked
        self.refused = refused or kicked


class ConnectionLostError(PlatformError):
    """The connection went away; whether an event in flight arrived is unknown."""


class AckTimeoutError(PlatformError):
    """An event was written and not acknowledged in time; whether it arrived is unknown."""


class SendRefusedError(PlatformError):
    """The platform answered a send with an error; ``error`` is its own text."""

    def __init__(self, error: str, verdict: Verdict = Verdict.RETRY) -> None:
        super().__init__(f"the platform refused the message: {error}", verdict)
        self.error = error


class AlreadyStoredError(SendRefusedError):
    """The platform has a message of that ``_id``: an earlier send arrived, or was stored and refused all the same."""

    def __init__(self, error: str) -> None:
        super().__init__(error, Verdict.REJECT)
