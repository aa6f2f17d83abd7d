"""How one agent is shown to a person: a fact a line, those that there are."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from supervisor.cli.output import NOTHING, duration, plain, state_text
from supervisor.core.activity import LATELY_MINUTES
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus
from supervisor.protocol.text import clean_text
from supervisor.telemetry.redaction import mask


def details(status: AgentStatus, now: float) -> Table:
    """One agent, a fact a line; ``now`` in seconds since the epoch."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("state", _state(status, now))
    for title, fact in (*_row(status), *_life(status, now), *_work(status, now)):
        table.add_row(title, Text(fact))
    return table


def _state(status: AgentStatus, now: float) -> Text:
    since = f" for {duration(now - status.since)}" if status.since is not None else ""
    return Text.assemble(state_text(status), since)


def _row(status: AgentStatus) -> Iterator[tuple[str, str]]:
    """What its row says."""
    yield "id", plain(status.id)
    yield "name", plain(status.name) or NOTHING
    yield "handler", plain(status.handler)
    yield "secret", plain(status.secret) or NOTHING
    yield "settings", _object(mask(status.settings))
    yield "labels", _object(status.labels)
    if status.paused:
        yield "paused", "yes"


def _life(status: AgentStatus, now: float) -> Iterator[tuple[str, str]]:
    """Whether it is online and well, and what else should be known of it."""
    if status.reason:
        yield "reason", plain(status.reason)
    if status.failing or status.state is AgentState.ONLINE:
        # Of one that is not online nobody knows whether it could answer.
        yield "health", plain(status.health)
    if status.notes:
        yield "notes", "\n".join(plain(note) for note in status.notes)
    if status.replica is not None:
        yield "replica", str(status.replica)
    if status.stale_since is not None:
        yield "heard of", f"{duration(now - status.stale_since)} ago"
    if (expiry := status.auth_expires_at) is not None:
        yield "token", f"for {duration(expiry - now)}" if expiry > now else "expired"
    if status.conversation_id is not None:
        yield "conversation", plain(status.conversation_id)


def _work(status: AgentStatus, now: float) -> Iterator[tuple[str, str]]:
    """What it has to do and has done."""
    inbox = status.inbox
    yield "messages", f"{inbox.available} waiting, {inbox.running} running, {inbox.dead} dead"
    if status.oldest_at is not None:
        yield "oldest", f"came {duration(now - status.oldest_at)} ago"
    yield "lately", f"{status.answered_lately} answered in {LATELY_MINUTES} min, {status.conversations} conversations"
    if status.undelivered:
        yield "not sent", f"{status.undelivered}: {plain(status.undelivered_reason)}"
    if status.handling:
        yield "handling", "\n".join(_handling(status, now))


def _handling(status: AgentStatus, now: float) -> Iterator[str]:
    """What a handler has in its hands, a line each, and the lines of its stack."""
    for one in status.handling:
        left = ", left behind" if one.left_behind else ""
        yield f"message {one.message} for {duration(now - one.since)}, attempt {one.attempt}{left}"
        yield from (f"  {clean_text(line)[0]}" for line in one.stack.splitlines())


def _object(value: object) -> str:
    return plain(json.dumps(value, ensure_ascii=False, default=str)) if value else NOTHING
