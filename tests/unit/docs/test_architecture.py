"""The architecture as documented is that of the code: its state diagrams, its rooms."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from supervisor.core.states import (
    AGENT_TRANSITIONS,
    FINAL_MESSAGE_STATES,
    FINAL_REPLY_STATES,
    MESSAGE_TRANSITIONS,
    REPLY_TRANSITIONS,
    AgentState,
    MessageState,
    ReplyState,
)
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text()
#: Any state may be left for these; a line for each of their arrows would hide the others.
_ALWAYS = frozenset({AgentState.DRAINING, AgentState.PAUSED, AgentState.FAULTED, AgentState.STOPPED})


def _agents() -> list[str]:
    lines = ["[*] --> authenticating"]
    for old, targets in AGENT_TRANSITIONS.items():
        lines += [f"{old} --> {new}" for new in AgentState if new in targets and not {old, new} & _ALWAYS]
    return [
        *lines,
        "note right of online: paused, faulted, draining and stopped can follow every state",
        "faulted --> authenticating",
        "paused --> authenticating",
        "draining --> stopped",
        "stopped --> [*]",
    ]


def _table(
    transitions: Mapping[MessageState, frozenset[MessageState]] | Mapping[ReplyState, frozenset[ReplyState]],
    final: frozenset[MessageState] | frozenset[ReplyState],
) -> list[str]:
    states = list(transitions)
    lines = [f"[*] --> {states[0]}"]
    for old, targets in transitions.items():
        lines += [f"{old} --> {new}" for new in states if new in targets]
    return [*lines, *(f"{state} --> [*]" for state in states if state in final)]


DIAGRAMS = {
    "agents": _agents(),
    "messages": _table(MESSAGE_TRANSITIONS, FINAL_MESSAGE_STATES),
    "replies": _table(REPLY_TRANSITIONS, FINAL_REPLY_STATES),
}


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_state_diagram_is_that_of_the_table(name: str) -> None:
    [drawn] = re.findall(rf"<!-- states of {name} -->\n(.*?)\n<!-- /states -->", PAGE, re.DOTALL)
    lines = [f"    {line}" for line in DIAGRAMS[name]]
    assert drawn.splitlines() == ["```mermaid", "stateDiagram-v2", *lines, "```"]


def test_what_the_diagram_of_agents_leaves_out_is_as_its_note_says() -> None:
    for new in (AgentState.DRAINING, AgentState.PAUSED, AgentState.FAULTED):
        for old in set(AgentState) - _ALWAYS:
            assert new in AGENT_TRANSITIONS[old]


def test_every_room_is_in_the_table_and_none_that_is_not_there() -> None:
    table = PAGE.split("## Rooms")[1].split("## Layers")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "supervisor").glob("*/__init__.py")}
    assert told == rooms | {"handler", "testing", "health"}


def test_files_that_the_page_names_exist() -> None:
    """Those of a room are named from ``supervisor/``."""
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE)
    assert len(named) > 40
    assert not [path for path in named if not any((folder / path).exists() for folder in (ROOT, ROOT / "supervisor"))]
