"""``supervisor db`` and ``config``: the deployment itself."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.telemetry.redaction import redact

if TYPE_CHECKING:
    from supervisor.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]

db = typer.Typer(no_args_is_help=True, help="The registry's database.", rich_markup_mode="markdown")


@db.command()
def upgrade(as_json: AsJson = False) -> None:
    """Create the registry, or bring its schema up to date while no supervisor runs on it; `supervisor run` does so too.

    Example: `supervisor db upgrade`
    """
    from supervisor import store  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    url = settings.registry_url
    schema = asyncio.run(store.upgrade(url, migration_copy=settings.migration_copy))
    say(f"{redact(url)}: schema {schema} (current)", {"registry_url": redact(url), "schema": schema}, as_json)


@db.command()
def check(as_json: AsJson = False) -> None:
    """Look the registry through: schema, damage, rows; in PostgreSQL also what its server cannot clear away.

    Example: `supervisor db check`
    """
    from supervisor import store  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415

    url = load_settings().registry_url
    said = asyncio.run(store.check(url))
    say(said, {"registry_url": redact(url), "sound": True, "summary": said}, as_json)


@db.command()
def backup(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file that is not there yet; or a folder, by the / behind it: the copy is named after the time.",
            show_default=False,
        ),
    ],
    keep: Annotated[
        int | None, typer.Option(min=1, help="In a folder: delete all but so many copies, the newest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the registry, of whatever version, into a new file, also while it runs; it holds people's messages.

    Example: `supervisor db backup supervisor-backup.db`, or `supervisor db backup backups/ --keep 7`
    """
    from supervisor import store  # noqa: PLC0415
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.management import backups  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415

    url, path = load_settings().registry_url, Path(file)
    folder = path if file.endswith("/") or path.is_dir() else None
    if keep is not None and folder is None:
        raise ConfigurationError(f"--keep is for a folder of copies; put a / behind {file}")
    deleted: list[Path] = []
    try:
        if folder is not None:
            path = backups.fresh_name(folder, time.time())
        asyncio.run(store.backup(url, path))
        if folder is not None and keep is not None:
            deleted = backups.keep_newest(folder, keep)
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
    size = path.stat().st_size
    fields = {"registry_url": redact(url), "file": str(path), "bytes": size}
    gone = f", deleted {len(deleted)} older" if deleted else ""
    kept = {"deleted": [str(one) for one in deleted]} if keep is not None else {}
    say(f"Copied {redact(url)} to {path} ({size} bytes){gone}", fields | kept, as_json)


@db.command()
def copy(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            help="An empty database; `env:NAME` where a variable has the URL, `-` to read it from standard input.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Copy everything into another database, such as PostgreSQL or back into a file, while no supervisor runs.

    The registry is marked: a supervisor refuses to run it from then on.

    Example: `supervisor db copy --to env:NEW_REGISTRY_URL`
    """
    from supervisor.settings import load_settings  # noqa: PLC0415
    from supervisor.store import opening  # noqa: PLC0415

    url = load_settings().registry_url
    where, rows = asyncio.run(opening.copy(url, _url_of(to)))
    line = f"Copied {rows['agents']} agents, {rows['inbox']} messages and {rows['outbox']} replies to {where}"
    line += "; set SUPERVISOR_REGISTRY_URL to it: a supervisor refuses to run the one it was copied from"
    say(line, {"registry_url": redact(url), "to": where, "rows": rows}, as_json)


def _url_of(given: str) -> str:
    """A URL that holds a password need not be in a command's line, which others can see."""
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415

    if given == "-":
        return sys.stdin.readline().strip()
    if not given.startswith("env:"):
        return given
    if not (found := os.environ.get(given.removeprefix("env:"), "")):
        raise ConfigurationError(f"--to: the variable {given.removeprefix('env:')} is not set")
    return found


def say(line: str, fields: dict[str, Any], as_json: bool) -> None:
    """Say one line, or the same as JSON."""
    if not as_json:
        print(line)
        return
    from supervisor.cli import output  # noqa: PLC0415

    output.print_json(fields)


def config(
    check: Annotated[
        bool, typer.Option("--check", help="Also start with them on an empty registry, and end before the platform.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the settings in effect, and where each comes from; secrets are masked.

    They come from SUPERVISOR_* variables, .env, /run/secrets and systemd's credentials.

    Example: `supervisor config --json`
    """
    from supervisor.cli import output  # noqa: PLC0415
    from supervisor.cli.errors import warn  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415
    from supervisor.settings.environment import env_file_notes, sources_of  # noqa: PLC0415

    settings = load_settings()
    for note in env_file_notes(settings.secret_env_prefixes):
        warn(note)
    if check:
        from supervisor.service import assembly  # noqa: PLC0415

        asyncio.run(assembly.try_parts(settings))
    shown = _shown(settings)
    if as_json:
        output.print_json(shown)
        return
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    sources = sources_of(settings)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SETTING", "VALUE", "FROM", "MEANING"):
        table.add_column(title, no_wrap=title != "MEANING", overflow="fold")
    for name, value in shown.items():
        description = type(settings).model_fields[name].description or ""
        row = (f"SUPERVISOR_{name.upper()}", _one_line(value), sources.get(name, "default"), description)
        table.add_row(*map(Text, row), style="" if name in sources else "dim")
    output.stdout_console().print(table)


def _shown(settings: Settings) -> dict[str, Any]:
    """Values as they may be shown: pydantic masks secrets, and a URL may hold a password."""
    raw = settings.model_dump(mode="json")
    return {name: redact(value) if isinstance(value, str) else value for name, value in raw.items()}


def _one_line(value: object) -> str:
    if value is None or value in ([], ""):
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
