"""What the registry and the running supervisor know of agents, put together for the commands that show it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor.cli.errors import warn

if TYPE_CHECKING:
    from supervisor.core.records import AgentRecord, Undelivered
    from supervisor.core.status import AgentStatus, InboxCounts
    from supervisor.settings import Settings
    from supervisor.settings.secrets import SecretBox
    from supervisor.store import Registry

T = TypeVar("T")


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Leave through the same door as Ctrl-C, so that the terminal is given back as it was."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def with_registry(settings: Settings, work: Callable[[Registry], Awaitable[T]], *, create: bool = False) -> T:
    """Open the registry, its schema brought up to date, do ``work`` that writes to it, and close it.

    Args:
        create: make one where there is none.

    Raises:
        RegistryError: the registry cannot be opened. Or what ``work`` raises.
    """
    return _with(settings, work, upgrade=True, create=create)


def read_registry(settings: Settings, work: Callable[[Registry], Awaitable[T]]) -> T:
    """As :func:`with_registry`, for ``work`` that only reads: nothing is made, migrated or written.

    Raises:
        RegistryNotFoundError: there is none. Or as :func:`with_registry`.
    """
    return _with(settings, work, reading=True)


def _with(
    settings: Settings,
    work: Callable[[Registry], Awaitable[T]],
    *,
    upgrade: bool = False,
    create: bool = False,
    reading: bool = False,
) -> T:
    from supervisor.store import Access, Registry  # noqa: PLC0415  import what is slow only when it runs

    async def run() -> T:
        registry = await Registry.open(
            settings.registry_url,
            synchronous=settings.synchronous,
            upgrade=upgrade,
            access=Access(reading, create, settings.migration_copy),
            cipher=_cipher(settings),
            encrypt=settings.journal_encryption,
        )
        try:
            return await work(registry)
        finally:
            await registry.close()

    return asyncio.run(run())


def _cipher(settings: Settings) -> SecretBox | None:
    if not settings.secret_keys:
        return None
    from supervisor.settings.secrets import SecretBox  # noqa: PLC0415  cryptography is slow to import

    return SecretBox.of(settings.secret_keys)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What the registry knows of agents."""

    records: list[AgentRecord]
    inboxes: dict[str, InboxCounts]
    undelivered: dict[str, Undelivered]
    uuid: str


async def rows_of(registry: Registry, only: str | None = None) -> Rows:
    """Read every agent's row, or one's, what its inbox holds, and what its outbox could not send."""
    from supervisor.core.states import MessageState  # noqa: PLC0415
    from supervisor.core.status import InboxCounts  # noqa: PLC0415

    records = await registry.agents() if only is None else [await registry.agent(only)]
    inboxes = {}
    for agent_id, counts in (await registry.journal.counts()).items():
        waiting = counts.get(MessageState.AVAILABLE, 0) + counts.get(MessageState.RETRYABLE, 0)
        inboxes[agent_id] = InboxCounts(waiting, counts.get(MessageState.RUNNING, 0), counts.get(MessageState.DEAD, 0))
    return Rows(records, inboxes, await registry.journal.undelivered(only), registry.uuid)


def _offline(record: AgentRecord, rows: Rows, reason: str = "") -> AgentStatus:
    """An agent as it is while no supervisor runs it."""
    from supervisor.core.records import Undelivered  # noqa: PLC0415
    from supervisor.core.states import AgentState  # noqa: PLC0415
    from supervisor.core.status import AgentStatus, InboxCounts  # noqa: PLC0415
    from supervisor.telemetry.redaction import redact  # noqa: PLC0415

    undelivered = rows.undelivered.get(record.id, Undelivered(0, ""))
    return AgentStatus(
        id=record.id,
        name=record.name,
        handler=record.handler,
        state=AgentState.PAUSED if record.paused else AgentState.STOPPED,
        reason=record.problem or reason,
        inbox=rows.inboxes.get(record.id, InboxCounts()),
        settings=record.settings,
        labels=record.labels,
        paused=record.paused,
        secret=record.secret_place,
        undelivered=undelivered.number,
        undelivered_reason=redact(undelivered.reason),
    )


def statuses_of(settings: Settings, rows: Rows, *, in_full: bool = False) -> list[AgentStatus]:
    """What is wanted, from the registry, with what is, from the supervisor that runs on it.

    Args:
        in_full: with what each agent's handler has in its hands; each is asked for by itself.
    """
    from supervisor.cli import live  # noqa: PLC0415
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    running = live.find(settings, rows.uuid)
    if running is None:
        return [_offline(record, rows) for record in rows.records]
    known = {status.id: status for status in running.statuses()}
    for agent_id in [record.id for record in rows.records if in_full and record.id in known]:
        # One that is removed in this moment is shown as it was.
        with contextlib.suppress(SupervisorError):
            known[agent_id] = running.status(agent_id)
    return [_with_live(record, rows, known.get(record.id)) for record in rows.records]


def _with_live(record: AgentRecord, rows: Rows, now: AgentStatus | None) -> AgentStatus:
    wanted = _offline(record, rows, "the supervisor has not taken it up yet")
    if now is None:
        return wanted
    return dataclasses.replace(
        now,
        name=wanted.name,
        handler=wanted.handler,
        settings=wanted.settings,
        labels=wanted.labels,
        paused=wanted.paused,
        secret=wanted.secret,
    )


def done(
    settings: Settings, what: Sequence[tuple[str, str]], *, as_json: bool, single: bool = True, then: str = ""
) -> None:
    """Say what was done to some agents and what comes of it, or show them as they are now.

    Args:
        what: each agent's id, and what was done, as ``Paused agent`` or as a whole line that holds the id.
        single: whether the command was about one agent, which JSON then shows alone.
        then: what has come of it; else what will, by whether a supervisor runs.
    """
    from supervisor.store import lock_holder  # noqa: PLC0415

    if as_json:
        print_agents(settings, [agent_id for agent_id, _ in what], single=single)
        return
    if not then:
        holder = lock_holder(settings.registry_url)
        then = f"the supervisor (pid {holder.pid}) takes it up" if holder else "start the fleet with: supervisor run"
    for agent_id, said in what:
        print(f"{said if agent_id in said else f'{said} {agent_id}'}; {then}")


def print_agents(settings: Settings, agent_ids: Sequence[str], *, single: bool = True) -> None:
    """Show agents as JSON; what was done to them stays done when their supervisor does not answer."""
    from supervisor.cli import output  # noqa: PLC0415
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    only = agent_ids[0] if len(agent_ids) == 1 else None
    rows = read_registry(settings, lambda registry: rows_of(registry, only))
    rows = dataclasses.replace(rows, records=[record for record in rows.records if record.id in agent_ids])
    try:
        statuses = statuses_of(settings, rows)
    except SupervisorError as error:
        warn(f"{'its' if single else 'their'} live state is unknown: {error}")
        statuses = [_offline(record, rows, str(error)) for record in rows.records]
    shown = [output.as_json(status) for status in statuses]
    output.print_json(shown[0] if single else shown)
