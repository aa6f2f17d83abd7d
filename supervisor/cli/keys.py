"""``supervisor keys``: the keys that secrets and journaled text are encrypted under."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli.deployment import AsJson, say
from supervisor.cli.errors import complain

if TYPE_CHECKING:
    from supervisor.settings import Settings
    from supervisor.settings.secrets import SecretBox
    from supervisor.store import Rotation

app = typer.Typer(no_args_is_help=True, help="Keys that encrypt secrets.", rich_markup_mode="markdown")

#: So many agents are named in an error; JSON names all.
_NAMED = 5


@app.command()
def generate(as_json: AsJson = False) -> None:
    """Make a key for SUPERVISOR_SECRET_KEYS; it is shown once and stored nowhere.

    Example: `export SUPERVISOR_SECRET_KEYS=$(supervisor keys generate)`
    """
    from supervisor.settings.secrets import generate_key  # noqa: PLC0415  cryptography is slow to import

    key = generate_key()
    say(key, {"key": key}, as_json)
    complain("Keep it: put it first in SUPERVISOR_SECRET_KEYS (comma-separated); without it stored secrets are lost")


@app.command()
def rotate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Encrypt stored secrets and journaled text anew under the first of SUPERVISOR_SECRET_KEYS.

    Put the new key first, keep the old one behind it, restart the supervisor, rotate; then the old key can be dropped.
    Works beside a running supervisor and, after it was interrupted, goes on where it was. What none of the keys opens
    stays as it is: exit 1.

    Example: `supervisor keys rotate --dry-run`
    """
    from supervisor import store  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415
    from supervisor.settings.secrets import SecretBox  # noqa: PLC0415

    settings = load_settings()
    box = SecretBox([key.get_secret_value() for key in settings.secret_keys])
    if not dry_run:
        _refuse_other_keys(settings, box)
    done = asyncio.run(store.rotate(settings.registry_url, box, dry_run=dry_run))
    say(_summary(done, dry_run=dry_run), _fields(done, dry_run=dry_run), as_json)
    if not dry_run:
        _note(settings, done)
        # A supervisor may have been started meanwhile.
        _refuse_other_keys(settings, box)
    if done.unreadable:
        raise ConfigurationError(_unreadable(done))
    return 0


def _note(settings: Settings, done: Rotation) -> None:
    """Have the history tell of it."""
    from supervisor.cli import known  # noqa: PLC0415

    renewed = {"agents": done.agents.renewed, "messages": done.messages.renewed}
    known.with_registry(settings, lambda registry: registry.history.note("", "keys rotated", **renewed))


def _refuse_other_keys(settings: Settings, box: SecretBox) -> None:
    """Refuse beside a supervisor that could not read what is written here, or goes on writing under another key."""
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.store.opening import lock_holders  # noqa: PLC0415

    for holder in lock_holders(settings.registry_url):
        if holder.first_key == box.first_key_id:
            continue
        has = "another first key in SUPERVISOR_SECRET_KEYS" if holder.first_key else "no SUPERVISOR_SECRET_KEYS"
        raise ConfigurationError(
            f"The supervisor (pid {holder.pid} on {holder.host}) runs with {has}; "
            "restart it with the same keys as here, then rotate"
        )


def _summary(done: Rotation, *, dry_run: bool) -> str:
    renewed = f"the secrets of {done.agents.renewed} agents and {done.messages.renewed} messages and replies"
    current = f"{done.agents.current} and {done.messages.current} are under it already"
    verb = "Would encrypt" if dry_run else "Encrypted"
    line = f"{verb} {renewed} under the first of SUPERVISOR_SECRET_KEYS; {current}"
    if dry_run or done.unreadable:
        return line
    return f"{line}. The other keys can be dropped; only backups made before need them"


def _fields(done: Rotation, *, dry_run: bool) -> dict[str, object]:
    import dataclasses  # noqa: PLC0415

    agents, messages = dataclasses.asdict(done.agents), dataclasses.asdict(done.messages)
    return {"dry_run": dry_run, "agents": agents, "messages": messages, "unreadable": dict(done.unreadable)}


def _unreadable(done: Rotation) -> str:
    names = sorted(done.unreadable)
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    what = f"the secrets of {done.agents.unreadable} agents and {done.messages.unreadable} messages and replies"
    return (
        f"None of SUPERVISOR_SECRET_KEYS opens {what} (agents {named}); they are as they were: add the key that "
        "encrypted them, or store the secrets anew: supervisor agents update ID --secret-stdin"
    )
