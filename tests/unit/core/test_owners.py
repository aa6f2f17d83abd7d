"""Whose code runs is known to what it starts, and to no thread of its own."""

from __future__ import annotations

import threading
from contextvars import ContextVar

from supervisor.core.owners import OURS, own_context, owner

_said: ContextVar[str] = ContextVar("said", default="nothing")


def test_in_a_context_of_our_own_nothing_else_is_known() -> None:
    _said.set("something")
    assert own_context().run(lambda: (owner.get(), _said.get())) == (OURS, "nothing")


def test_a_thread_begins_without_an_owner() -> None:
    found: list[str | None] = []

    def begin() -> None:
        thread = threading.Thread(target=lambda: found.append(owner.get()))
        thread.start()
        thread.join()

    own_context().run(begin)
    assert found == [None]
