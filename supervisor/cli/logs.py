"""``supervisor logs``: what a running supervisor writes about its agents, and their changes of state."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from supervisor.cli import selecting
from supervisor.cli.durations import duration
from supervisor.cli.errors import UsageError, complain
from supervisor.cli.streams import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor.cli.live import LiveEvent
    from supervisor.settings import Settings

_RETRY_SECONDS: Final = 1.0
_LINES: Final = 50
_MOST_LINES: Final = 1_000

Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    typer.Option(help="Lines that matter at least so much; a change of state counts as info."),
]
Grep = Annotated[str, typer.Option(metavar="TEXT", help="Lines with this text, in whatever case.", show_default=False)]
Since = Annotated[
    float | None,
    typer.Option(
        parser=duration, metavar="AGE", help="Of so long ago and later: 90s, 15m, 2h, 7d.", show_default=False
    ),
]
Lines = Annotated[
    int | None,
    typer.Option(
        "--lines",
        "-n",
        min=0,
        max=_MOST_LINES,
        help="Begin with so many that were; else 50, or with --since all of them.",
        show_default=False,
    ),
]


def logs(
    agent_id: selecting.MaybeAgent = None,
    *,
    labels: selecting.WithLabel,
    states: selecting.InState,
    handlers: selecting.WithHandler,
    level: Level = "debug",
    grep: Grep = "",
    since: Since = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Lines = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, an object a line.")] = False,
) -> int:
    """Show what the running supervisor wrote of agents lately, and their changes of state.

    It keeps some thousand lines in memory, of all agents together; what lies further back is in its own log. Lines
    below SUPERVISOR_LOG_LEVEL are not among them. With --follow it waits for a supervisor that is restarted.

    Example: `supervisor logs 650000000000000000000001 --follow` or `supervisor logs --level warning --since 15m`
    """
    from supervisor.settings import load_settings  # noqa: PLC0415  import what is slow only when it runs

    selector = selecting.selector(labels, states, handlers)
    if agent_id is not None and selector:
        raise UsageError("Name an agent or select some, not both")
    wanted = {
        "label": tuple(labels),
        "state": tuple(states),
        "handler": tuple(handlers),
        "level": level,
        "text": grep,
        "newer_than_seconds": since,
    }
    settings = load_settings()
    if agent_id is not None:
        wanted["agent_id"] = selecting.one(settings, agent_id).id
    last = lines if lines is not None else _LINES if since is None else _MOST_LINES
    return _show(settings, wanted, last, _Shown(settings, as_json=as_json), follow=follow)


def _show(settings: Settings, wanted: Mapping[str, Any], last: int, shown: _Shown, *, follow: bool) -> int:
    from supervisor.cli import known, live  # noqa: PLC0415

    running = live.require(settings)
    if not follow:
        for event in running.events(wanted, last=last, follow=False):
            shown.show(event)
        return 0
    with contextlib.suppress(KeyboardInterrupt), known.ended_by_sigterm():
        _follow(settings, wanted, last, shown)
    return 0


def _follow(settings: Settings, wanted: Mapping[str, Any], last: int, shown: _Shown) -> None:
    """Show what comes; where the supervisor goes away, go on after the last event once it is back."""
    from supervisor.cli import live  # noqa: PLC0415

    announced = False
    while True:
        try:
            running = live.require(settings)
            if announced:
                complain("The supervisor is back")
            announced = False
            for event in running.events(wanted, last=last, follow=True, after=shown.last_id):
                shown.show(event)
        except (live.NotRunningError, live.UnreachableError) as error:
            if not announced:
                complain(f"{error}; waiting for it")
            announced = True
        time.sleep(_RETRY_SECONDS)


class _Shown:
    """Writes events, for people with the names of agents, and remembers the last one."""

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self._settings = settings
        self._as_json = as_json
        self._names: dict[str, str] = {}
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.last_id: str | None = None

    def show(self, event: LiveEvent) -> None:
        """Write one event."""
        from supervisor.telemetry.console import console_line  # noqa: PLC0415

        self.last_id = event.id or self.last_id
        if self._as_json:
            print(as_text({**event.fields, "kind": event.kind}), flush=True)
        elif event.kind == "gap" and "replica" in event.fields:
            complain(f"Nothing comes of replica {event.fields['replica']} any more: {event.fields.get('reason')}")
        elif event.kind == "gap":
            complain(f"{event.fields.get('missed')} events are missing here: more came than the supervisor keeps")
        else:
            fields = event.fields if event.kind == "log" else _state_line(event.fields)
            print(console_line(self._named(fields), colours=self._colours), flush=True)

    def _named(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A line with the name of its agent behind the id, where it has one."""
        agent_id = fields.get("agent")
        if not agent_id:
            return fields
        if agent_id not in self._names:
            self._names |= {agent_id: ""} | _names(self._settings)
        name = self._names[agent_id]
        named: dict[str, Any] = {}
        for key, value in fields.items():
            named[key] = value
            if key == "agent" and name:
                named["name"] = name
        return named


def _names(settings: Settings) -> dict[str, str]:
    """The agents' names by their ids; none while the registry cannot be read."""
    from supervisor.cli import known  # noqa: PLC0415
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415

    try:
        records = known.read_registry(settings, lambda registry: registry.agents())
    except SupervisorError:
        return {}
    return {record.id: record.name for record in records}


def _state_line(fields: dict[str, Any]) -> dict[str, Any]:
    """A change of state in the form of a log line."""
    at = datetime.fromtimestamp(fields["since"], UTC).isoformat(timespec="milliseconds")
    line = {"timestamp": at, "level": "info", "event": "state", "agent": fields["agent"], "state": fields["state"]}
    line["was"] = fields["was"]
    return line | ({"reason": fields["reason"]} if fields.get("reason") else {})
