"""Who changes the registry: said once, where a command or a request begins, and kept with each change that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Args:
        kind: ``command``, ``import``, ``api``, ``file``, ``platform`` or ``supervisor``; ``sql`` where a row was found
            changed and nobody had said so.
        address: whence: who runs the command and where, which token asked and from which address, which file.
    """

    kind: str
    address: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.address})" if self.address else self.kind


SUPERVISOR: Final = Actor("supervisor")
SQL: Final = Actor("sql")
PLATFORM: Final = Actor("platform")
_acting: ContextVar[Actor] = ContextVar("acting", default=SUPERVISOR)


def acting() -> Actor:
    """Who acts here: in this task, and in what it has begun since."""
    return _acting.get()


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """What is changed within is this one's doing."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)
