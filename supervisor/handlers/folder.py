"""Where handlers are: the agents folder, and those that come with the supervisor. None of their code is run."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from supervisor.core.errors import ConfigurationError, HandlerError, HandlerNotFoundError
from supervisor.settings.kinds import BUNDLED_HANDLERS

#: What the bundled handlers are imported from.
BUNDLED_PACKAGE: Final = "supervisor_bundled"
#: So many names that are near to an unknown one are shown.
_NEAR_NAMES: Final = 3


def find_agents_dir(configured: Path | None, *, cwd: Path | None = None) -> Path:
    """The folder of handlers: the configured one, else ``./agents``, else the bundled ones.

    Raises:
        ConfigurationError: the configured folder does not exist, or there is none at all.
    """
    if configured is not None:
        if not configured.is_dir():
            raise ConfigurationError(f"There is no agents folder at {configured}; mend SUPERVISOR_AGENTS_DIR")
        return configured.resolve()
    here = (cwd or Path.cwd()) / "agents"
    found = here.resolve() if here.is_dir() else bundled_dir()
    if found is None:
        raise ConfigurationError("There is no agents folder; make ./agents or set SUPERVISOR_AGENTS_DIR")
    return found


@lru_cache(maxsize=1)
def bundled_dir() -> Path | None:
    """The folder of the handlers that come with the supervisor; None where they were not installed."""
    package = Path(__file__).parent.parent
    # In a clone the first is a link to the second, for whoever imports it elsewhere than in a handler: a type checker.
    for candidate in (package.parent / BUNDLED_PACKAGE, package.parent / "agents"):
        if candidate.is_dir():
            return candidate.resolve()
    return None


def split_reference(reference: str) -> tuple[str, str]:
    """A row's handler as a module and one attribute of it, which is empty where none is named.

    Raises:
        HandlerError: it is neither.
    """
    module, _, attribute = reference.partition(":")
    if not module or not all(part.isidentifier() for part in module.split(".")):
        raise HandlerError(f"{reference!r} is no handler; write echo, echo:Handler or package.module:attribute")
    if attribute and not attribute.isidentifier():
        raise HandlerError(
            f"{reference!r} is no handler: after the colon stands one name of the module; give what you mean one"
        )
    return module, attribute


def handler_names(agents_dir: Path) -> list[str]:
    """The handlers that a folder holds, in order; none of their code is run.

    Raises:
        HandlerError: the folder cannot be read.
    """
    try:
        entries = list(agents_dir.iterdir())
    except OSError as error:
        raise HandlerError(f"The agents folder {agents_dir} cannot be read: {error.strerror}") from error
    found = {entry.stem for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    return sorted(name for name in found if name.isidentifier() and not name.startswith("_"))


@dataclass(frozen=True, slots=True)
class Folders:
    """The handlers that a row may name by themselves: those of the agents folder, then the bundled ones.

    Args:
        own: the agents folder, which may be the bundled one itself.
        allowed: the bundled handlers that may be named (BUNDLED_HANDLERS).
    """

    own: Path
    allowed: Collection[str] = BUNDLED_HANDLERS

    def names(self) -> list[str]:
        """Their names in order; raises as :func:`handler_names` does."""
        return sorted({*self.own_names(), *(() if bundled_dir() is None else self.allowed)})

    def own_names(self) -> list[str]:
        """Those of the agents folder; raises as :func:`handler_names` does."""
        found = handler_names(self.own)
        if self.own != bundled_dir():
            return found
        return [name for name in found if name in self.allowed or name not in BUNDLED_HANDLERS]

    def home(self, name: str) -> Path:
        """The folder that a handler is in.

        Raises:
            HandlerNotFoundError: it is in none; with the names near to it. Or as :func:`handler_names`.
        """
        if self._is_own(name) or name in self.own_names():
            return self.own
        bundled = bundled_dir()
        if bundled is None or name not in self.allowed:
            raise self._unknown(name)
        return bundled

    def _is_own(self, name: str) -> bool:
        """Whether the agents folder has a file of that name that may be named, without a look at all others."""
        allowed = name in self.allowed or name not in BUNDLED_HANDLERS
        if not (allowed and name.isidentifier()) or name.startswith("_"):
            return False
        with suppress(OSError), os.scandir(self.own) as entries:
            return any(entry.name == f"{name}.py" for entry in entries)
        return False

    def _unknown(self, name: str) -> HandlerNotFoundError:
        known = self.names()
        if name in BUNDLED_HANDLERS:
            hint = "SUPERVISOR_BUNDLED_HANDLERS leaves the bundled one out"
        elif near := difflib.get_close_matches(name, known, n=_NEAR_NAMES):
            hint = f"did you mean {' or '.join(near)}?"
        else:
            hint = f"there are: {', '.join(known) or 'none'}"
        return HandlerNotFoundError(f"There is no handler {name!r} in {self.own}; {hint}")
