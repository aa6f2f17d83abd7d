"""README says what the code says: its state diagram, its commands, its settings."""

from __future__ import annotations

import re

from supervisor.core.states import AGENT_TRANSITIONS, AgentState
from supervisor.settings import Settings
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()
#: Any state may be left for these; a line for each of their arrows would hide the others.
_ALWAYS = frozenset({AgentState.DRAINING, AgentState.PAUSED, AgentState.FAULTED, AgentState.STOPPED})


def diagram() -> str:
    """The agent's states as README draws them."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> authenticating"]
    for old, targets in AGENT_TRANSITIONS.items():
        lines += [f"    {old} --> {new}" for new in AgentState if new in targets and not {old, new} & _ALWAYS]
    lines += [
        "    note right of online: paused, faulted, draining and stopped can follow every state",
        "    faulted --> authenticating",
        "    paused --> authenticating",
        "    draining --> stopped",
        "    stopped --> [*]",
        "```",
    ]
    return "\n".join(lines)


def test_the_state_diagram_is_that_of_the_table() -> None:
    [drawn] = re.findall(r"<!-- states:.*?-->\n(.*?)\n<!-- /states -->", README, re.DOTALL)
    assert drawn == diagram()


def test_what_the_diagram_leaves_out_is_as_its_note_says() -> None:
    for new in (AgentState.DRAINING, AgentState.PAUSED, AgentState.FAULTED):
        for old in set(AgentState) - _ALWAYS:
            assert new in AGENT_TRANSITIONS[old]


def test_every_setting_that_readme_names_exists() -> None:
    table = README.split("| setting | default |")[1].split("\n\n")[0]
    names = {name for row in table.splitlines() for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert names
    assert names <= {name.upper() for name in Settings.model_fields}
