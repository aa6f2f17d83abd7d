"""Whose code runs: ours, a handler's, or nobody's that is known, as in a thread that somebody has started."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Final

#: What :data:`owner` is for the supervisor's own code.
OURS: Final = ""
#: Inherited by each task and callback that the code starts; a new thread begins without.
owner: ContextVar[str | None] = ContextVar("owner of the code that runs", default=None)


def own_context() -> Context:
    """A context in which nothing is known but that our own code runs."""
    context = Context()
    context.run(owner.set, OURS)
    return context
