"""Who changed an agent, and the way back: to a version of its row, and behind its removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentEvent, AgentRecord
from supervisor.management.agents import Checker
from supervisor.store import Registry
from supervisor.store.dialect.history import FIELDS, MAX_EVENT_ID, MAX_EVENTS, ROW, SEALED
from supervisor.telemetry.redaction import REDACTED

#: Events of an agent that may be asked for at once: all that are kept.
MOST_EVENTS: Final = MAX_EVENTS


class VersionError(RegistryError):
    """An agent cannot go back to a version of its row."""


@dataclass(frozen=True, slots=True)
class WayBack:
    """What a rollback does.

    Args:
        fields: the row's fields that change, as :meth:`supervisor.store.Registry.update_agent` takes them.
        kept: what stays as it is, since the history knows no secrets; one line each.
    """

    fields: Mapping[str, Any]
    kept: tuple[str, ...] = ()


async def of(registry: Registry, agent_id: str | None, limit: int, before_id: int = MAX_EVENT_ID) -> list[AgentEvent]:
    """The newest events of an agent, of all with None, the newest first.

    Args:
        before_id: only events with a smaller number.

    Raises:
        AgentNotFoundError: nothing is known of an agent of that id.
    """
    events = await registry.history.of(agent_id, limit, before_id)
    if agent_id is not None and not any(event.agent_id for event in events):
        await registry.agent(agent_id)
    return events


async def rollback(registry: Registry, checker: Checker, agent_id: str, number: int) -> WayBack:
    """Have an agent's row be as it was after a change.

    Args:
        number: of the event, as the history shows it.

    Raises:
        AgentNotFoundError: there is no such agent.
        VersionError: it has no such version, or that cannot be gone back to.
        ConfigurationError: the row could not work like that any more.
    """
    record = await registry.agent(agent_id)
    found = [event for event in await registry.history.of(agent_id, MOST_EVENTS) if event.id == number]
    if not found or found[0].subject != ROW:
        raise VersionError(f"Agent {agent_id} has no version {number}; see: supervisor agents history {agent_id}")
    way = _way_back(record, found[0])
    checker.check_changes(agent_id, way.fields)
    await registry.alter_agents([agent_id], lambda _: way.fields, action=f"rolled back to {number}")
    return way


def _way_back(record: AgentRecord, event: AgentEvent) -> WayBack:
    then = event.after
    if then is None:
        raise VersionError(f"Version {event.id} is the removal of agent {record.id}: there is no row to go back to")
    if then.get("problem") or set(FIELDS) - set(then):
        raise VersionError(f"Version {event.id} of agent {record.id} was not kept: it was too large, or of no use")
    fields = {name: then[name] for name in FIELDS}
    kept = []
    hidden = {key for key, value in then["settings"].items() if REDACTED in str(value) or SEALED in str(value)}
    if hidden:
        kept.append(f"settings {', '.join(sorted(hidden))} stay as they are: their values are kept nowhere else")
        own = {key: record.settings[key] for key in hidden & record.settings.keys()}
        fields["settings"] = {key: value for key, value in then["settings"].items() if key not in hidden} | own
    if then["secret"] == SEALED:
        del fields["secret"]
        kept.append("the secret stays as it is: an encrypted one is kept nowhere else")
    changed = {name: value for name, value in fields.items() if getattr(record, name) != value}
    return WayBack(changed, tuple(kept))
