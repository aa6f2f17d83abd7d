"""How commands reach a demo that runs: it leaves the settings that lead to it beside its registry, for its own user."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from supervisor.core.errors import SupervisorError

#: How the folder of a demo begins, among the temporary files.
FOLDER_PREFIX: Final = "supervisor-"
_FILE: Final = "demo.json"
_PREFIX: Final = "SUPERVISOR_"


#: The address of the chat page of the demo that this command asks.
_CHAT_PAGE: Final = "chat_page"
_asked: dict[str, str] = {}


def leave(folder: Path, settings: Mapping[str, str], chat_page: str) -> None:
    """Write down the variables with which commands reach the demo of a folder, and where people do; once both can."""
    partial = folder / f"{_FILE}.partial"
    partial.write_text(json.dumps({**settings, _CHAT_PAGE: chat_page}), encoding="utf-8")
    partial.replace(folder / _FILE)


def use() -> None:
    """Have this command ask the demo that was started last, and look at no other settings.

    Raises:
        SupervisorError: none runs here, of this user.
    """
    from supervisor.store import lock_holder  # noqa: PLC0415  import what is slow only when it runs

    for settings in _left():
        if lock_holder(settings[f"{_PREFIX}REGISTRY_URL"]) is not None:
            for name in [name for name in os.environ if name.startswith(_PREFIX)]:
                del os.environ[name]
            _asked[_CHAT_PAGE] = settings.pop(_CHAT_PAGE)
            os.environ.update(settings)
            return
    raise SupervisorError("No demo runs here; start it in another terminal with: supervisor demo")


def chat_page() -> str | None:
    """Where people talk to the agents of the demo that this command asks; None: it asks none."""
    return _asked.get(_CHAT_PAGE)


def _left() -> Iterator[dict[str, str]]:
    """What the demos of this user have left, the newest first; what somebody else left there is not looked at."""
    found = []
    for file in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/{_FILE}"):
        try:
            about = file.stat()
            if about.st_uid == os.getuid() == file.parent.stat().st_uid:
                found.append((about.st_mtime, file.read_text(encoding="utf-8")))
        except OSError:
            continue
    for _, text in sorted(found, reverse=True):
        yield json.loads(text)
