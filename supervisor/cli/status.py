"""``supervisor status``: the whole supervisor at a glance, once or as a live table."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from supervisor.cli import known, selecting
from supervisor.cli.streams import as_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from supervisor.cli.live import LiveSupervisor
    from supervisor.cli.watching import View
    from supervisor.core.status import AgentStatus, Overview
    from supervisor.settings import Settings

_REFRESH_SECONDS = 1.0
#: Lines beside what is counted: an empty one, and the table's head.
_OTHER_LINES = 2
_MAX_REASONS = 4
#: Width and height of the screen; no height where all may be shown.
_Size = tuple[int, int | None]


def status(
    *,
    labels: selecting.WithLabel,
    states: selecting.InState,
    handlers: selecting.WithHandler,
    sort: Annotated[
        Literal["worst", "name", "rate", "waiting", "dead", "newest"],
        typer.Option(help="Which agents come first: those that most need somebody, or by this."),
    ] = "worst",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every second until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON; with --watch one line a second.")] = False,
) -> int:
    """Show how the running supervisor and its agents are; selections and the order are of the table.

    With --watch, on a terminal: `s` another order, `/` a filter, `f` only what is in trouble, arrows and pages to
    scroll, `q` to end. RATE: messages answered a minute, in the last five.

    Example: `supervisor status --watch`
    """
    from supervisor.cli import live, watching  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings import load_settings  # noqa: PLC0415

    view = watching.View(selecting.selector(labels, states, handlers), sort)
    settings = load_settings()
    if watch:
        return _watch(settings, view, as_json=as_json)
    running = live.require(settings)
    overview = running.overview()
    if as_json:
        _print_json(overview, indent=2)
    else:
        from supervisor.cli import output  # noqa: PLC0415

        console = output.stdout_console()
        seen = Seen(running, overview, running.statuses(), time.time(), trouble="")
        console.print(draw(seen, (console.width, None), view))
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
    asked: float = 0.0
    trouble: str = "looking for a supervisor …"

    def refresh(self, settings: Settings) -> None:
        """Ask again; a supervisor that went away is looked for anew."""
        from supervisor.cli import live  # noqa: PLC0415
        from supervisor.core.errors import SupervisorError  # noqa: PLC0415

        self.asked = time.time()
        try:
            if self.running is None:
                self.running = live.require(settings)
            self.overview, self.statuses = self.running.overview(), self.running.statuses()
            self.at, self.trouble = time.time(), ""
        except SupervisorError as error:
            self.running, self.trouble = None, str(error)


def _watch(settings: Settings, view: View, *, as_json: bool) -> int:
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
        _watch_table(settings, seen, view)
    return 0


def _watch_table(settings: Settings, seen: Seen, view: View) -> None:
    from rich.live import Live  # noqa: PLC0415

    from supervisor.cli import output, watching  # noqa: PLC0415

    console = output.stdout_console()
    if not sys.stdout.isatty():
        while True:
            seen.refresh(settings)
            console.print(draw(seen, (console.width, None), view))
            time.sleep(_REFRESH_SECONDS)
    with watching.keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not view.ended:
            if time.time() >= seen.asked + _REFRESH_SECONDS:
                seen.refresh(settings)
            live.update(draw(seen, (console.size.width, console.size.height), view), refresh=True)
            for key in pressed(max(0.0, seen.asked + _REFRESH_SECONDS - time.time())):
                view.press(key)


def draw(seen: Seen, size: _Size, view: View | None = None) -> RenderableType:
    """The screen of ``--watch``: what fits into ``size``, columns and rows, and a word on what does not."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli import output, watching  # noqa: PLC0415

    trouble = Text(f"⚠ {seen.trouble}", style="bold yellow")
    if seen.overview is None:
        return trouble
    view = view or watching.View()
    ago = Text(f"what follows is {round(time.time() - seen.at)} s old", style="yellow")
    above = [*((trouble, ago) if seen.trouble else ()), *_above(seen, seen.overview, time.time())]
    width, height = size
    wanted = view.shown(seen.statuses)
    if height is None:
        return Group(*above, Text(""), output.agents_table(wanted, time.time(), width))
    reasons = min(_MAX_REASONS, sum(bool(output.reason(status)) for status in wanted))
    keys = Text(watching.HELP, style="dim")
    taken = _height([*above, keys], width) + 1 + reasons + _OTHER_LINES
    table = output.agents_table(view.page(wanted, height - taken), time.time(), width, max_reasons=reasons, whole=False)
    said = view.said(len(wanted), len(seen.statuses))
    return Group(*above, Text(""), table, *([Text(said, style="dim")] if said else []), keys)


def _height(lines: list[Text], width: int) -> int:
    """How many lines of the screen they take."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(width=width)
    return sum(len(line.wrap(console, width)) for line in lines)


def _above(seen: Seen, overview: Overview, now: float) -> list[Text]:
    """What stands above the table."""
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli import output  # noqa: PLC0415

    url = seen.running.url if seen.running else ""
    return [
        _headline(overview, url, now),
        _figures(overview, seen.statuses),
        *(output.replica_line(one, now) for one in overview.replicas),
        *(Text(f"✖ {output.plain(problem)}", style="bold red") for problem in overview.problems),
        *(Text(f"⚠ {output.plain(notice)}", style="yellow") for notice in overview.notices),
    ]


def _headline(overview: Overview, url: str, now: float) -> Text:
    from rich.text import Text  # noqa: PLC0415

    from supervisor.cli.output import duration  # noqa: PLC0415

    ready = Text("not ready", style="bold red") if overview.problems else Text("ready", style="bold green")
    up = duration(now - overview.started_at)
    return Text.assemble(
        ("supervisor ", "bold"), f"{overview.version}  ", ready, f"  up {up}  pid {overview.pid}  {url}"
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
