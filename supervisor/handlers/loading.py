"""Whose turn it is to run the code of a module for the first time, which may take its time, or never end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from supervisor.core.errors import HandlerError

#: One that takes longer than this is not waited for: what hangs must not keep the others from loading.
PATIENCE_SECONDS: Final = 5.0


class StillLoadingError(HandlerError):
    """Another thread runs the module's code already, and takes long."""


@dataclass(frozen=True, eq=False, slots=True)
class _Load:
    """A load under way; waited for until then, in monotonic seconds."""

    module: str
    until: float


class LoadingTurns:
    """Lets one thread load at a time: what one imports or forgets is everybody's.

    Args:
        patience_seconds: one that takes longer is passed by, and goes on beside the others.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience = patience_seconds
        self._changed = threading.Condition()  # guards all that follows
        self._current: _Load | None = None
        self._passed: set[_Load] = set()

    @contextmanager
    def turn(self, module: str) -> Iterator[None]:
        """Wait for a turn to load ``module``, and have it.

        Raises:
            StillLoadingError: one that was passed by loads it. A thread that waited too would only be one less.
        """
        load = self._begin(module)
        try:
            yield
        finally:
            with self._changed:
                self._passed.discard(load)
                if self._current is load:
                    self._current = None
                self._changed.notify()

    def _begin(self, module: str) -> _Load:
        with self._changed:
            while (current := self._current) is not None:
                left = current.until - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    self._passed.add(current)
                    self._current = None
            if any(one.module == module for one in self._passed):
                # Whoever waits beside was perhaps not told, for this one was.
                self._changed.notify()
                raise StillLoadingError(f"Handler {module!r} is being loaded, which takes long")
            self._current = _Load(module, time.monotonic() + self._patience)
            return self._current
