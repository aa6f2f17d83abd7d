"""``supervisor status``: the whole supervisor at a glance, once or as a live table."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli import known
from supervisor.cli.streams import as_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from supervisor.cli.live import LiveSupervisor
    from supervisor.core.status import AgentStatus, Overview
    from supervisor.settings import Settings

_REFRESH_SECONDS = 1.0
#: Lines beside what is counted: trouble and its age, an empty line, the table's head, the line about the rest.
_OTHER_LINES = 6
_MAX_REASONS = 4
#: Width and height of the screen; no height where all may be shown.
_Size = tuple[int, int | None]


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every second until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON; with --watch one line a second.")] = False,
) -> int:
    """Show how the running supervisor and its agents are.

    Example: `supervisor status --watch`
    """
    from supervisor.cli import live  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    if watch:
        return _watch(settings, as_json=as_json)
    running = live.require(settings)
    overview = running.overview()
    if as_json:
        _print_json(overview, indent=2)
    else:
        from supervisor.cli import output  # noqa: PLC0415

        console = output.stdout_console()
        console.print(_screen(overview, running.statuses(), running.url, (console.width, None)))
    return 0


def _print_json(overview: Overview, indent: int | None = None) -> None:
    print(as_text(dataclasses.asdict(overview), indent), flush=True)


@dataclasses.dataclass
class Seen:
    """What the supervisor said last, and why it says nothing now."""

    running: LiveSupervisor | None = None
    overview: Overview | None = None
    statuses: list[AgentStatus] = dataclasses.field(default_factory=list)
    at: float = 0.0
    trouble: str = "looking for a supervisor …"

    def refresh(self, settings: Settings) -> None:
        """Ask again; a supervisor that went away is looked for anew."""
        from supervisor.cli import live  # noqa: PLC0415
        from supervisor.core.errors import SupervisorError  # noqa: PLC0415

        try:
            if self.running is None:
                self.running = live.require(settings)
            self.overview, self.statuses = self.running.overview(), self.running.statuses()
            self.at, self.trouble = time.time(), ""
        except SupervisorError as error:
            self.running, self.trouble = None, str(error)


def _watch(settings: Settings, *, as_json: bool) -> int:
    seen = Seen()
    with contextlib.suppress(KeyboardInterrupt), known.ended_by_sigterm():
        if as_json:
            while True:
                seen.refresh(settings)
                if seen.overview is not None and not seen.trouble:
                    _print_json(seen.overview)
                else:
                    print(as_text({"error": seen.trouble}), flush=True)
                time.sleep(_REFRESH_SECONDS)
        _watch_table(settings, seen)
    return 0


def _watch_table(settings: Settings, seen: Seen) -> None:
    from rich.live import Live  # noqa: PLC0415

    from supervisor.cli import output  # noqa: PLC0415

    console = output.stdout_console()
    if not sys.stdout.isatty():
        while True:
            seen.refresh(settings)
            console.print(draw(seen, (console.width, None)))
            time.sleep(_REFRESH_SECONDS)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            seen.refresh(settings)
            live.update(draw(seen, (console.size.width, console.size.height)), refresh=True)
            time.sleep(_REFRESH_SECONDS)


def draw(seen: Seen, size: _Size) -> RenderableType:
    """The screen of ``--watch``: what fits into ``size``, columns and rows, and a word on what does not."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    trouble = Text(f"⚠ {seen.trouble}", style="bold yellow")
    if seen.overview is None:
        return trouble
    screen = _screen(seen.overview, seen.statuses, seen.running.url if seen.running else "", size)
    if not seen.trouble:
        return screen
    ago = Text(f"what follows is {round(time.time() - seen.at)} s old", style="yellow")
    return Group(trouble, ago, screen)


def _screen(overview: Overview, statuses: list[AgentStatus], url: str, size: _Size) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli import output  # noqa: PLC0415

    now = time.time()
    width, height = size
    lines: list[RenderableType] = [_headline(overview, url, now), _figures(overview, statuses)]
    lines += [Text(f"✖ {output.plain(problem)}", style="bold red") for problem in overview.problems]
    lines += [Text(f"⚠ {output.plain(notice)}", style="yellow") for notice in overview.notices]
    ordered = output.worst_first(statuses)
    reasons = 50 if height is None else min(_MAX_REASONS, sum(bool(output.reason(status)) for status in ordered))
    shown = ordered if height is None else ordered[: max(1, height - len(lines) - reasons - _OTHER_LINES)]
    lines += [Text(""), output.agents_table(shown, now, width, max_reasons=reasons)]
    if len(shown) < len(ordered):
        lines.append(Text(f"… and {len(ordered) - len(shown)} more; a higher window shows them", style="dim"))
    return Group(*lines)


def _headline(overview: Overview, url: str, now: float) -> Text:
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli.output import duration  # noqa: PLC0415

    ready = Text("not ready", style="bold red") if overview.problems else Text("ready", style="bold green")
    up = duration(now - overview.started_at)
    return Text.assemble(
        ("supervisor ", "bold"), f"{overview.version}  ", ready, f"  up {up}  pid {overview.pid}  {url}", no_wrap=True
    )


def _figures(overview: Overview, statuses: list[AgentStatus]) -> Text:
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli.output import STATE_STYLES, TROUBLE_STYLES  # noqa: PLC0415

    total = sum(overview.agents.values())
    parts: list[Any] = ["1 agent" if total == 1 else f"{total} agents"]
    for state, (symbol, style) in STATE_STYLES.items():
        if count := overview.agents.get(state):
            parts += ["  ", (f"{symbol} {count} {state}", style)]
    for trouble, (symbol, style) in TROUBLE_STYLES.items():
        if count := sum(status.trouble == trouble for status in statuses):
            parts += ["  ", (f"{symbol} {count} {trouble}", style)]
    inbox = overview.inbox
    parts.append(f"   messages: {inbox.available} waiting, {inbox.running} running, ")
    parts.append((f"{inbox.dead} dead", "bold red" if inbox.dead else ""))
    return Text.assemble(*parts)
