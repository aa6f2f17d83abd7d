"""``supervisor logs``: what a running supervisor writes about one agent, and its changes of state."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli.errors import complain
from supervisor.cli.streams import as_text

if TYPE_CHECKING:
    from supervisor.cli.live import LiveEvent
    from supervisor.settings import Settings

_RETRY_SECONDS = 1.0


def logs(
    agent_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only this agent's; else everything.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=1000, help="Begin with so many that were.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, an object a line.")] = False,
) -> int:
    """Show what the running supervisor wrote of an agent lately, and its changes of state.

    It keeps some thousand lines in memory, of all agents together; what lies further back is in its own log. Lines
    below SUPERVISOR_LOG_LEVEL are not among them. With --follow it waits for a supervisor that is restarted.

    Example: `supervisor logs 650000000000000000000001 --follow`
    """
    from supervisor.cli import known, live  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    if agent_id is not None:
        _require_agent(settings, agent_id)
    shown = _Shown(as_json=as_json)
    running = live.require(settings)
    if not follow:
        for event in running.events(agent_id, last=lines, follow=False):
            shown.show(event)
        return 0
    with contextlib.suppress(KeyboardInterrupt), known.ended_by_sigterm():
        _follow(settings, agent_id, lines, shown)
    return 0


def _require_agent(settings: Settings, agent_id: str) -> None:
    from supervisor.cli import known  # noqa: PLC0415

    known.read_registry(settings, lambda registry: registry.agent(agent_id))


def _follow(settings: Settings, agent_id: str | None, lines: int, shown: _Shown) -> None:
    """Show what comes; where the supervisor goes away, go on after the last event once it is back."""
    from supervisor.cli import live  # noqa: PLC0415

    announced = False
    while True:
        try:
            running = live.require(settings)
            if announced:
                complain("The supervisor is back")
            announced = False
            for event in running.events(agent_id, last=lines, follow=True, after=shown.last_id):
                shown.show(event)
        except (live.NotRunningError, live.UnreachableError) as error:
            if not announced:
                complain(f"{error}; waiting for it")
            announced = True
        time.sleep(_RETRY_SECONDS)


class _Shown:
    """Writes events, and remembers the last one."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.last_id: str | None = None

    def show(self, event: LiveEvent) -> None:
        """Write one event."""
        from supervisor.telemetry.console import console_line  # noqa: PLC0415

        self.last_id = event.id or self.last_id
        if self._as_json:
            print(as_text({**event.fields, "kind": event.kind}), flush=True)
        elif event.kind == "gap":
            complain(f"{event.fields.get('missed')} events are missing here: more came than the supervisor keeps")
        else:
            fields = event.fields if event.kind == "log" else _state_line(event.fields)
            print(console_line(fields, colours=self._colours), flush=True)


def _state_line(fields: dict[str, Any]) -> dict[str, Any]:
    """A change of state in the form of a log line."""
    at = datetime.fromtimestamp(fields["since"], UTC).isoformat(timespec="milliseconds")
    line = {"timestamp": at, "level": "info", "event": "state", "agent": fields["agent"], "state": fields["state"]}
    line["was"] = fields["was"]
    return line | ({"reason": fields["reason"]} if fields.get("reason") else {})
