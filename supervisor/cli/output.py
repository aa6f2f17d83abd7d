"""How agents and figures are shown: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supervisor.protocol import clean_text
from supervisor.states import AgentState
from supervisor.status import AgentStatus

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
_WORST_FIRST: Final = {state: rank for rank, state in enumerate(STATE_STYLES)}
_UNBOUNDED_COLUMNS: Final = 400


def stdout_console() -> Console:
    """Standard output; a pipe gets lines of any length, so that nothing is cut or wrapped."""
    return Console(width=None if sys.stdout.isatty() else _UNBOUNDED_COLUMNS, highlight=False, soft_wrap=False)


def stderr_console() -> Console:
    """Standard error, for progress: standard output is for what was asked for."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Write ``value`` as JSON for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def as_json(status: AgentStatus) -> dict[str, Any]:
    """An agent with the contract's fields (DESIGN §6), values that look secret masked."""
    from supervisor.logs import mask  # noqa: PLC0415  only where something is shown

    return dataclasses.asdict(status) | {"settings": mask(status.settings)}


def plain(text: str) -> str:
    """Text from outside, on one line and without what could move the cursor."""
    return " ".join(clean_text(text)[0].split())


def duration(seconds: float) -> str:
    """A span of time in one figure: ``42 s``, ``3 min``, ``5 h``, ``2 d``."""
    whole = max(0, round(seconds))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def state_text(state: AgentState) -> Text:
    """A state with its symbol and colour."""
    symbol, style = STATE_STYLES[state]
    return Text(f"{symbol} {state}", style=style)


def worst_first(statuses: Iterable[AgentStatus]) -> list[AgentStatus]:
    """Agents in the order in which a person should look at them."""
    return sorted(statuses, key=lambda status: (_WORST_FIRST[status.state], status.name or status.id, status.id))


def agents_table(statuses: Sequence[AgentStatus], now: float, *, caption: str = "") -> Table:
    """Agents as a table.

    Args:
        now: seconds since the epoch.
        caption: a line below.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", caption=caption or None, caption_justify="left")
    for title in ("STATE", "AGENT", "NAME", "HANDLER", "SINCE"):
        table.add_column(title, no_wrap=True)
    for title in ("CONV", "WAIT", "RUN", "DEAD"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("TOKEN", no_wrap=True)
    table.add_column("REASON", overflow="ellipsis", no_wrap=True, ratio=1)
    for status in statuses:
        table.add_row(*_row(status, now))
    return table


def _row(status: AgentStatus, now: float) -> list[Text]:
    inbox = status.inbox
    reason, style = status.reason, ""
    if not reason and status.health != "ok":
        reason, style = status.health, "yellow"
    expiry = status.auth_expires_at
    return [
        state_text(status.state),
        Text(plain(status.id)),
        Text(plain(status.name)),
        Text(plain(status.handler)),
        Text(duration(now - status.since) if status.since is not None else "–"),
        Text(str(status.conversations)),
        Text(str(inbox.available)),
        Text(str(inbox.running)),
        Text(str(inbox.dead), style="red" if inbox.dead else ""),
        Text("–" if expiry is None else duration(expiry - now) if expiry > now else "expired"),
        Text(plain(reason), style=style),
    ]


def details(status: AgentStatus, now: float) -> Table:
    """One agent, a field a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in as_json(status).items():
        table.add_row(name.replace("_", " "), _field(name, value, status, now))
    return table


def _field(name: str, value: Any, status: AgentStatus, now: float) -> Text:
    if name == "state":
        return state_text(status.state)
    if value is None or value in ("", {}):
        return Text("–", style="dim")
    if name == "since":
        return Text(f"{duration(now - value)} ago")
    if name == "auth_expires_at":
        return Text(f"in {duration(value - now)}" if value > now else "expired")
    if name == "inbox":
        return Text(", ".join(f"{count} {state}" for state, count in value.items()))
    if isinstance(value, dict | bool):
        return Text(plain(json.dumps(value, ensure_ascii=False, default=str)))
    return Text(plain(str(value)))
