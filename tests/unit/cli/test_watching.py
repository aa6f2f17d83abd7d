"""The live table: what is shown, in what order and from where, by the keys that are pressed."""

from __future__ import annotations

import os
import pty
import sys
import termios

import pytest

from supervisor.cli.watching import View, keys
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, InboxCounts
from supervisor.management.selection import Selector

FLEET = [
    AgentStatus("a1", "Cleo", "echo", AgentState.ONLINE, since=10.0, answered_lately=5, labels={"team": "sales"}),
    AgentStatus("a2", "ada", "tour", AgentState.ONLINE, since=30.0, inbox=InboxCounts(available=7)),
    AgentStatus("a3", "Bob", "echo", AgentState.FAULTED, since=20.0, reason="no key", inbox=InboxCounts(dead=2)),
]


def ids(view: View) -> list[str]:
    return [status.id for status in view.shown(FLEET)]


def press(view: View, *pressed: str) -> View:
    for key in pressed:
        view.press(key)
    return view


def test_what_most_needs_somebody_is_first_and_s_goes_through_the_orders() -> None:
    view = View()
    found = {}
    for _ in range(6):
        found[view.order] = ids(view)
        view.press("s")
    assert view.order == "worst"
    assert found == {
        "worst": ["a3", "a1", "a2"],
        "name": ["a2", "a3", "a1"],
        "rate": ["a1", "a3", "a2"],
        "waiting": ["a2", "a3", "a1"],
        "dead": ["a3", "a1", "a2"],
        "newest": ["a2", "a3", "a1"],
    }


def test_a_filter_is_typed_and_taken_back() -> None:
    view = press(View(), "/", "S", "a", "x", "\x7f", "l")
    assert (view.text, view.typing, ids(view)) == ("Sal", True, ["a1"])
    press(view, "q")
    assert not view.ended, "a letter of the filter ends nothing"
    press(view, "\x7f", "\r")
    assert (view.typing, ids(view)) == (False, ["a1"])
    press(view, "\x1b")
    assert ids(view) == ["a3", "a1", "a2"]
    assert ids(press(view, "f")) == ["a3"]
    assert ids(View(Selector.of(handlers=["tour"]))) == ["a2"]
    assert press(View(), "q").ended


def test_one_scrolls_within_what_there_is() -> None:
    view = View(order="name")
    many = [AgentStatus(f"a{number:02d}", "", "echo", AgentState.ONLINE) for number in range(25)]

    def top() -> str:
        return view.page(view.shown(many), 10)[0].id

    assert top() == "a00"
    assert view.said(25, 25) == "1 to 10 of 25  by name"
    for pressed, wanted in (
        ("j", "a01"),
        ("\x1b[B", "a02"),
        ("\x1b[6~", "a12"),
        (" ", "a15"),
        ("\x1b[A", "a14"),
        ("g", "a00"),
        ("k", "a00"),
        ("G", "a15"),
        ("\x1b[5~", "a05"),
        ("?", "a05"),
    ):
        view.press(pressed)
        assert top() == wanted, pressed
    view.press("f")
    assert list(view.page(view.shown(many), 10)) == []
    assert view.said(0, 25) == "0 of 25  by name  in trouble only"
    assert View().said(1, 1) == ""


def test_keys_come_one_by_one_and_the_terminal_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with keys() as pressed:
            assert pressed(0.0) == []
            os.write(master, b"s\x1b[6~/a")
            assert pressed(5.0) == ["s", "\x1b[6~", "/", "a"]
        assert termios.tcgetattr(slave) == before
    os.close(master)
