"""Which agents a person means: one by its id, its name or the beginning of either, or all that have something."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from supervisor.core.errors import AgentNotFoundError, AmbiguousAgentError, ConfigurationError
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus
from supervisor.core.trouble import FAILING, SPENT, STUCK, UNKNOWN

#: Fewer characters stand for no agent: a slip would too easily mean one.
MIN_PREFIX_CHARS: Final = 4
#: What an agent can be asked to be: its states, and the troubles that it may have beside them.
STATES: Final = (*map(str, AgentState), FAILING, STUCK, SPENT, UNKNOWN)


class Named(Protocol):
    """Something that people call by an id or a name."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def pick(text: str, agents: Iterable[N]) -> N:
    """The agent whose id ``text`` is, else whose name, else whose id or name begins with it; then so in whatever case.

    Raises:
        AmbiguousAgentError: it fits several equally well; names them.
        AgentNotFoundError: it fits none, or is a beginning of fewer than ``MIN_PREFIX_CHARS`` characters.
    """
    agents = list(agents)
    too_short = len(text) < MIN_PREFIX_CHARS
    for cased in (str, str.casefold):
        wanted, called = cased(text), [(one, cased(one.id), cased(one.name)) for one in agents]
        fits = [
            [one for one, identity, _ in called if identity == wanted],
            [one for one, _, name in called if name == wanted],
            [one for one, identity, name in called if identity.startswith(wanted) or name.startswith(wanted)],
        ]
        for found in fits[:2] if too_short else fits:
            if len(found) > 1:
                raise AmbiguousAgentError(text, [(one.id, one.name) for one in found])
            if found:
                return found[0]
    if text and too_short and fits[2]:
        advice = f"of the beginning of an id or a name write {MIN_PREFIX_CHARS} characters or more"
        raise AgentNotFoundError(repr(text), advice)
    raise AgentNotFoundError(text)


def is_whole(text: str, agent: Named) -> bool:
    """Whether ``text`` names the agent in full, as what cannot be taken back wants it."""
    return text in (agent.id, agent.name)


@dataclass(frozen=True, slots=True)
class Selector:
    """Agents by what they have; every condition given must hold.

    Args:
        labels: they have each of these; None stands for any value.
        states: they are in one of these, ``failing`` and ``stuck`` among them.
        handlers: they have one of these, as ``echo`` or ``echo:Handler``; the first stands for the second too.
        text: it stands in their id, name, handler or reason, in whatever case.
    """

    labels: Mapping[str, str | None] = field(default_factory=dict)
    states: frozenset[str] = frozenset()
    handlers: Collection[str] = ()
    text: str = ""

    @classmethod
    def of(
        cls, labels: Iterable[str] = (), states: Iterable[str] = (), handlers: Iterable[str] = (), text: str = ""
    ) -> Selector:
        """A selector as people write it: labels as ``KEY=VALUE`` or ``KEY``.

        Raises:
            ConfigurationError: a label has no key, or there is no such state.
        """
        wanted: dict[str, str | None] = {}
        for label in labels:
            key, equals, value = label.partition("=")
            if not key.strip():
                raise ConfigurationError(f"A label is chosen by KEY=VALUE or KEY, not {label!r}")
            wanted[key.strip()] = value if equals else None
        states = list(states)
        if unknown := [state for state in states if state not in STATES]:
            raise ConfigurationError(f"There is no state {unknown[0]!r}; there are: {', '.join(STATES)}")
        return cls(wanted, frozenset(states), tuple(handlers), text.strip().lower())

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.labels or self.states or self.handlers or self.text)

    def __contains__(self, status: AgentStatus) -> bool:
        """Whether an agent has all that is asked for."""
        return (
            all(key in status.labels and value in (None, status.labels[key]) for key, value in self.labels.items())
            and (not self.states or not self.states.isdisjoint(_conditions(status)))
            and (not self.handlers or not {status.handler, status.handler.partition(":")[0]}.isdisjoint(self.handlers))
            and self.text in f"{status.id} {status.name} {status.handler} {status.reason}".lower()
        )


def _conditions(status: AgentStatus) -> set[str]:
    """What an agent is, in the words of ``STATES``."""
    # Of one whose replica does not answer nobody knows the state.
    state = () if status.trouble == UNKNOWN and not status.paused else (status.state,)
    return {*state, status.trouble, *((FAILING,) if status.failing else ())}
