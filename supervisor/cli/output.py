"""How agents and figures are shown: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.cli.streams import as_text
from supervisor.core.activity import LATELY_MINUTES
from supervisor.core.replicas import ReplicaStatus
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus
from supervisor.core.trouble import FAILING, SPENT, STUCK, UNKNOWN, oldest
from supervisor.protocol.text import clean_text
from supervisor.telemetry.redaction import mask

#: A symbol beside each colour: not everyone sees colours, and logs have none.
STATE_STYLES: Final[dict[AgentState, tuple[str, str]]] = {
    AgentState.FAULTED: ("▲", "bold red"),
    AgentState.REJECTED: ("✖", "bold red"),
    AgentState.BACKOFF: ("↻", "yellow"),
    AgentState.REGISTERING: ("◕", "cyan"),
    AgentState.CONNECTING: ("◑", "cyan"),
    AgentState.AUTHENTICATING: ("◔", "cyan"),
    AgentState.DRAINING: ("◌", "cyan"),
    AgentState.ONLINE: ("●", "green"),
    AgentState.PAUSED: ("‖", "dim"),
    AgentState.STOPPED: ("○", "dim"),
}
#: What an agent is shown as instead, where it does not answer well, or nobody knows.
TROUBLE_STYLES: Final[dict[str, tuple[str, str]]] = {
    FAILING: ("⚠", "bold yellow"),
    STUCK: ("◷", "bold yellow"),
    SPENT: ("⊘", "bold yellow"),
    UNKNOWN: ("?", "bold yellow"),
}
REPLICA_STYLES: Final[dict[str, tuple[str, str]]] = {
    "living": ("●", "green"),
    "draining": ("◌", "cyan"),
    "silent": ("?", "bold yellow"),
}
_STYLES: Final[dict[str, tuple[str, str]]] = {
    str(state): style for state, style in STATE_STYLES.items()
} | TROUBLE_STYLES
_WORST_FIRST: Final = {
    word: rank for rank, word in enumerate(dict.fromkeys([AgentState.FAULTED, *TROUBLE_STYLES, *STATE_STYLES]))
}
NOTHING: Final = "-"
_REASON: Final = "REASON"
_TITLES: Final = ("STATE", "AGENT", "NAME", "HANDLER", "SINCE", "CONV", "RATE", "WAIT", "RUN", "DEAD", "TOKEN", _REASON)
_FIGURES: Final = frozenset({"CONV", "RATE", "WAIT", "RUN", "DEAD"})
#: AGENT goes where all have names, which commands take too; else NAME goes.
_DROPPED_FIRST: Final = ("CONV", "RUN", "RATE", "HANDLER", "TOKEN", "AGENT", "DEAD", "SINCE", "WAIT")
_GAP, _LEAST_REASON, _MAX_NAME_CHARS = 2, 40, 28
_UNBOUNDED_COLUMNS: Final = 400


def stdout_console() -> Console:
    """Standard output; a pipe gets lines of any length, so that nothing is cut or wrapped."""
    return Console(width=None if sys.stdout.isatty() else _UNBOUNDED_COLUMNS, highlight=False, soft_wrap=False)


def stderr_console() -> Console:
    """Standard error, for progress: standard output is for what was asked for."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Write ``value`` as JSON for programs."""
    print(as_text(value, indent=2))


def as_json(status: AgentStatus) -> dict[str, Any]:
    """An agent with the contract's fields, values that look secret masked."""
    return dataclasses.asdict(status) | {"settings": mask(status.settings)}


def plain(text: str) -> str:
    """Text from outside, on one line and without what could move the cursor."""
    return " ".join(clean_text(text)[0].split())


def duration(seconds: float) -> str:
    """``seconds`` in one figure: ``42 s``, ``3 min``, ``5 h``, ``2 d``."""
    whole = max(0, round(seconds))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def state_text(status: AgentStatus) -> Text:
    """An agent's state, or its trouble while it is online, with its symbol and colour."""
    word = status.trouble or status.state
    symbol, style = _STYLES[word]
    return Text(f"{symbol} {word}", style=style)


def worst_first(statuses: Iterable[AgentStatus]) -> list[AgentStatus]:
    """Agents in the order in which a person should look at them."""

    def rank(status: AgentStatus) -> tuple[int, bool, str, str]:
        return _WORST_FIRST[status.trouble or status.state], not status.failing, status.name or status.id, status.id

    return sorted(statuses, key=rank)


def agents_table(
    statuses: Sequence[AgentStatus], now: float, width: int, *, max_reasons: int = 50, whole: bool = True
) -> RenderableType:
    """Agents as a table that fits: columns go by their use, and reasons move below where there is no room beside.

    Args:
        now: seconds since the epoch.
        width: of the screen, in characters.
        max_reasons: how many reasons may stand below the table.
        whole: whether reasons are wrapped, rather than cut to a line each.
    """
    rows = [_row(status, now) for status in statuses]
    widths = {title: max(len(title), *(len(row[title]) for row in rows)) for title in _TITLES} if rows else {}
    shown = [title for title in _TITLES if title != _REASON]

    def room() -> int:
        return width - sum(widths[title] + _GAP for title in shown)

    named = all(status.name for status in statuses)
    for title in _DROPPED_FIRST:
        if rows and room() < 0:
            shown.remove("NAME" if title == "AGENT" and not named else title)
    beside = bool(rows) and room() >= min(widths[_REASON], _LEAST_REASON)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in shown:
        table.add_column(
            title, justify="right" if title in _FIGURES else "left", no_wrap=True, min_width=widths.get(title)
        )
    if beside:
        table.add_column(_REASON, no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*(row[title] for title in ([*shown, _REASON] if beside else shown)))
    return table if beside else Group(table, *_reasons(statuses, max_reasons, whole=whole))


def _reasons(statuses: Sequence[AgentStatus], limit: int, *, whole: bool) -> Iterator[Text]:
    given = [(status, said) for status in statuses if (said := reason(status))]
    for status, said in given[:limit]:
        symbol, style = _STYLES[status.trouble or status.state]
        who = (plain(status.name or status.id), "bold")
        yield Text.assemble((f"{symbol} ", style), who, f": {said}", no_wrap=not whole, overflow="ellipsis")


def reason(status: AgentStatus) -> str:
    """Why an agent is not online, or online and cannot answer well; empty where all is well."""
    if status.trouble == STUCK and not status.reason and status.oldest_at is not None:
        return oldest(time.time() - status.oldest_at)
    return plain(status.reason or (status.health if status.failing else ""))


def _row(status: AgentStatus, now: float) -> dict[str, Text]:
    inbox, expiry = status.inbox, status.auth_expires_at
    return {
        "STATE": state_text(status),
        "AGENT": Text(plain(status.id)),
        "NAME": Text(plain(status.name)[:_MAX_NAME_CHARS]),
        "HANDLER": Text(plain(status.handler)),
        "SINCE": Text(duration(now - status.since) if status.since is not None else NOTHING),
        "CONV": Text(str(status.conversations)),
        "RATE": Text(f"{status.answered_lately / LATELY_MINUTES:.3g}/min" if status.answered_lately else NOTHING),
        "WAIT": Text(str(inbox.available)),
        "RUN": Text(str(inbox.running)),
        "DEAD": Text(str(inbox.dead), style="red" if inbox.dead else ""),
        "TOKEN": Text(NOTHING if expiry is None else duration(expiry - now) if expiry > now else "expired"),
        _REASON: Text(reason(status)),
    }


def replica_line(replica: ReplicaStatus, now: float) -> Text:
    """One of the supervisors that share a registry, in a line."""
    symbol, style = REPLICA_STYLES[replica.state]
    online = "" if replica.online is None else f" ({replica.online} online)"
    agents = "1 agent" if replica.agents == 1 else f"{replica.agents} agents"
    words = [
        f"  {agents}{online}",
        f"pid {replica.pid} on {plain(replica.host)}",
        f"{plain(replica.version)}, up {duration(now - replica.started_at)}",
        plain(replica.address) or "no address",
        *((f"silent: {plain(replica.reason)}",) if replica.reason else ()),
        *(("this one",) if replica.me else ()),
    ]
    return Text.assemble((f"{symbol} replica {replica.id} {replica.state}", style), "  ".join(words))
