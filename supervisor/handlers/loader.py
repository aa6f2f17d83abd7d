"""Finds handlers by reference and loads them; :mod:`supervisor.handlers.mounted` gives all their forms one shape.

The agents folder is mounted as the synthetic package ``supervisor_agents``: relative imports, dataclasses and pickling
work, ``sys.path`` is untouched, and the PyPI packages whose import name is ``agents`` stay reachable. The bundled
handlers beside it are ``supervisor_bundled``, a package of their own: what they share is not what an author calls so.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
import types
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from supervisor.core.errors import HandlerError
from supervisor.handlers.declared import SETTINGS, schema_of, settings_of
from supervisor.handlers.folder import BUNDLED_PACKAGE, Folders, bundled_dir, split_reference
from supervisor.handlers.foreign import is_readable
from supervisor.handlers.loading import LoadingTurns
from supervisor.handlers.mounted import MountedHandler
from supervisor.handlers.picking import pick
from supervisor.handlers.review import review
from supervisor.handlers.threads import DaemonThreads, ThreadShare
from supervisor.settings.kinds import BUNDLED_HANDLERS
from supervisor.telemetry.failures import describe

PACKAGE = "supervisor_agents"
#: An import that brings so many modules along is a library's, which stays for the life of the process.
HEAVY_IMPORT_MODULES = 200
#: How long a handler's code may take to load; a container may have little of the CPU that a large library wants.
LOAD_SECONDS = 120.0

#: Of the whole process, as its modules are.
_turns = LoadingTurns()


def _package(name: str, folder: Path) -> types.ModuleType:
    package = types.ModuleType(name, f"The handlers of {folder}.")
    package.__path__ = [str(folder)]
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = package.__path__
    package.__spec__ = spec
    return package


class HandlerLoader:
    """Loads handlers from the agents folder and, where the deployment allows it, from installed packages.

    Args:
        agents_dir: the folder that holds one module or package per handler.
        packages: top-level packages whose handlers a row may name (HANDLER_PACKAGES).
        bundled: the bundled handlers that a row may name (BUNDLED_HANDLERS).
        threads: how many handlers that are plain functions run at once, two at least.
        threads_per_agent: how many of one agent do; half of ``threads`` unless given, and never all of them.
    """

    def __init__(
        self,
        agents_dir: Path,
        *,
        packages: Sequence[str] = (),
        bundled: Collection[str] = BUNDLED_HANDLERS,
        threads: int = 32,
        threads_per_agent: int | None = None,
    ) -> None:
        self.agents_dir = agents_dir
        self._packages = frozenset(packages)
        self._folders = Folders(agents_dir, bundled)
        threads = max(2, threads)
        self._share = min(max(1, threads_per_agent or threads // 2), threads - 1)
        # A pool of their own: DNS must not stall when handlers block every thread.
        self._threads = DaemonThreads(threads, "handler")
        self._package = _package(PACKAGE, agents_dir)
        # By reference: the module, what is the handler of it, and what was seen of both.
        self._reviewed: dict[str, tuple[types.ModuleType, Any, tuple[str, ...]]] = {}

    def _mount(self) -> None:
        """Have the package be this folder's: another loader of the process may have mounted its own."""
        if BUNDLED_PACKAGE not in sys.modules and (bundled := bundled_dir()) is not None:
            sys.modules[BUNDLED_PACKAGE] = _package(BUNDLED_PACKAGE, bundled)
        if sys.modules.get(PACKAGE) is not self._package:
            self._forget(PACKAGE)
            sys.modules[PACKAGE] = self._package

    @staticmethod
    def _forget(name: str) -> None:
        for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[module]

    def names(self) -> list[str]:
        """The handlers that a row may name by themselves; raises as :meth:`.Folders.names` does."""
        return self._folders.names()

    def load(self, reference: str, *, fresh: bool = False) -> MountedHandler:
        """Load a handler. Runs the author's code, which may take its time: call it in a thread.

        Args:
            reference: ``echo``, ``echo:Handler``, or ``package.module:attribute`` for an installed package.
            fresh: read the code of the agents folder from disk again (``agents reload``), what it shares between
                handlers included; handlers that are loaded already keep theirs.

        Raises:
            HandlerNotFoundError: there is none of that name.
            StillLoadingError: another thread runs its code, and takes long.
            HandlerError: it is not allowed, or its code fails; the cause is chained.
        """
        module_name, attribute = split_reference(reference)
        with _turns.turn(module_name):
            if "." in module_name:
                target = self._import_installed(module_name, attribute)
            else:
                target = self._import_mounted(module_name, fresh=fresh)
            picked = pick(target, attribute, reference)
            handler = self._mounted(reference, picked)
            handler.notes = self._review(target, picked, handler)
            handler.settings = settings_of(getattr(target, SETTINGS, None))
            handler.schema = schema_of(getattr(target, SETTINGS, None))
            handler.objects = self.find
            return handler

    def _review(self, module: types.ModuleType, picked: Any, handler: MountedHandler) -> tuple[str, ...]:
        """What is seen in a module's source: read once, however many agents it answers for."""
        known = self._reviewed.get(handler.reference)
        if known is None or known[0] is not module or known[1] is not picked:
            notes = review(module, handler.target, handler.on_message, handler.reference)
            known = self._reviewed[handler.reference] = module, picked, notes
        return known[2]

    def find(self, reference: str) -> Any:
        """An object of a module by ``module:name``, for a handler that was told so; runs code as :meth:`load` does.

        Raises:
            HandlerError: as :meth:`load`; the bundled handlers are none of these modules.
        """
        module_name, attribute = split_reference(reference)
        if not attribute:
            raise HandlerError(f"{reference!r} names no object of its module; write {reference}:name")
        with _turns.turn(module_name):
            if "." in module_name:
                target = self._import_installed(module_name, attribute)
            else:
                Folders(self.agents_dir, ()).home(module_name)
                target = self._import_mounted(module_name, fresh=False)
            return pick(target, attribute, reference)

    def _import_mounted(self, name: str, *, fresh: bool) -> types.ModuleType:
        package = PACKAGE if self._folders.home(name) == self.agents_dir else BUNDLED_PACKAGE
        self._mount()
        if fresh:
            self._forget_all()
        return self._import(f"{package}.{name}", name)

    def _forget_all(self) -> None:
        """Make the next import read every module of the folder anew."""
        for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
            source = getattr(sys.modules.pop(name), "__file__", None)
            if source and source.endswith(".py"):
                # Python knows stale bytecode by size and whole seconds: the second of two quick edits would be missed.
                with contextlib.suppress(OSError, NotImplementedError):
                    Path(importlib.util.cache_from_source(source)).unlink()
        importlib.invalidate_caches()

    def _import_installed(self, name: str, attribute: str) -> types.ModuleType:
        top = name.partition(".")[0]
        if top not in self._packages:
            raise HandlerError(f"Handlers of package {top!r} are not allowed; add it to SUPERVISOR_HANDLER_PACKAGES")
        if not attribute:
            raise HandlerError(f"Handler {name!r} of an installed package needs an attribute: {name}:Name")
        return self._import(name, name)

    def _import(self, full_name: str, shown: str) -> types.ModuleType:
        modules = len(sys.modules)
        try:
            module = importlib.import_module(full_name)
        except ModuleNotFoundError as error:
            self._forget(full_name)
            if error.name and f"{full_name}.".startswith(f"{error.name}."):
                raise HandlerError(f"There is no module {error.name!r} for handler {shown!r}") from error
            if error.name and error.name.startswith(f"{PACKAGE}."):
                missing = error.name.removeprefix(f"{PACKAGE}.")
                hint = f"; the bundled one is {BUNDLED_PACKAGE}.{missing}" if missing in BUNDLED_HANDLERS else ""
                raise HandlerError(
                    f"Handler {shown!r} needs the module {missing!r}, which is not in {self.agents_dir}{hint}"
                ) from error
            wanted = f"the package {error.name!r}, which is not installed" if error.name else str(error)
            raise HandlerError(f"Handler {shown!r} needs {wanted}") from error
        except BaseException as error:
            self._forget(full_name)
            reason = f"{describe(error)}{self._place(error)}"
            raise HandlerError(f"Handler {shown!r} fails to load: {reason}") from error
        if len(sys.modules) - modules >= HEAVY_IMPORT_MODULES:
            # Full collections pass over what is frozen. The assistant's library alone would cost each of them 0.3 s,
            # for which the event loop stands. A collection now would take as long: what is garbage now stays for good.
            gc.freeze()
        return module

    def _place(self, error: BaseException) -> str:
        """Where in the agents folder its code failed; nothing where the error says so itself."""
        frames = (
            ()
            if not is_readable(error) or isinstance(error, SyntaxError)
            else traceback.extract_tb(error.__traceback__)
        )
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(self.agents_dir)]
        return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""

    def _mounted(self, reference: str, target: Any) -> MountedHandler:
        if inspect.isclass(target):
            try:
                target = target()
            except BaseException as error:
                reason = f"{describe(error)}{self._place(error)}"
                raise HandlerError(f"Handler {reference!r} cannot be made: {reason}") from error
        on_message = getattr(target, "on_message", target)
        if not callable(on_message):
            raise HandlerError(f"Handler {reference!r} has no on_message")
        return MountedHandler(reference, target, on_message, ThreadShare(self._threads, self._share))

    def close(self) -> None:
        """Let go of the threads; one that is still in a handler ends with it or with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)
