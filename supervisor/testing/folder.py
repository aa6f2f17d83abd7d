"""Where a tested handler is."""

from __future__ import annotations

from pathlib import Path

from supervisor.handlers import find_agents_dir


def agents_folder(agents_dir: str | Path | None) -> Path:
    """The folder of handlers: the one that is given, or the one that ``supervisor run`` would take."""
    return find_agents_dir(None if agents_dir is None else Path(agents_dir))


def packages_of(handler: str) -> list[str]:
    """The installed package that a reference names, which the test allows by naming it."""
    module = handler.partition(":")[0]
    return [module.partition(".")[0]] if "." in module else []
