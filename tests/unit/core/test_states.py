"""The transition tables: complete, connected, and final where they say so."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.states import (
    AGENT_TRANSITIONS,
    FINAL_MESSAGE_STATES,
    FINAL_REPLY_STATES,
    MESSAGE_TRANSITIONS,
    REPLY_TRANSITIONS,
    AgentState,
    IllegalTransitionError,
    MessageState,
    ReplyState,
    check_transition,
)

TABLES: list[tuple[type[StrEnum], Mapping[Any, frozenset[Any]], StrEnum]] = [
    (AgentState, AGENT_TRANSITIONS, AgentState.STOPPED),
    (MessageState, MESSAGE_TRANSITIONS, MessageState.AVAILABLE),
    (ReplyState, REPLY_TRANSITIONS, ReplyState.PENDING),
]


def reachable(table: Mapping[Any, frozenset[Any]], start: Any) -> set[Any]:
    seen, ahead = {start}, [start]
    while ahead:
        new = table[ahead.pop()] - seen
        seen |= new
        ahead += new
    return seen


@pytest.mark.parametrize(("states", "table", "start"), TABLES)
def test_every_state_has_its_row_and_can_be_reached(
    states: type[StrEnum], table: Mapping[Any, frozenset[Any]], start: StrEnum
) -> None:
    assert set(table) == set(states)
    assert reachable(table, start) == set(states)
    assert all(state not in after for state, after in table.items()), "no state follows itself"


def test_the_names_are_those_of_the_contract() -> None:
    assert ",".join(AgentState) == (
        "paused,authenticating,connecting,registering,online,backoff,rejected,faulted,draining,stopped"
    )
    messages = {str(state) for state in MessageState}
    assert messages == {"available", "running", "done", "retryable", "dead", "cancelled"}
    assert {str(state) for state in ReplyState} == {"pending", "sent", "acked", "unknown", "dead"}


def test_final_states_are_final() -> None:
    assert {s for s, after in REPLY_TRANSITIONS.items() if not after} == FINAL_REPLY_STATES - {ReplyState.DEAD}
    assert {s for s, after in MESSAGE_TRANSITIONS.items() if not after} == FINAL_MESSAGE_STATES - {MessageState.DEAD}
    # Only a person brings a dead letter back, or puts it away.
    assert MESSAGE_TRANSITIONS[MessageState.DEAD] == {MessageState.AVAILABLE, MessageState.CANCELLED}
    assert REPLY_TRANSITIONS[ReplyState.DEAD] == {ReplyState.PENDING}


def test_an_agent_is_online_only_by_registering() -> None:
    before = {state for state, after in AGENT_TRANSITIONS.items() if AgentState.ONLINE in after}
    assert before == {AgentState.REGISTERING}


@pytest.mark.parametrize("state", list(AgentState))
def test_from_everywhere_an_agent_can_stop_and_come_online(state: AgentState) -> None:
    assert AgentState.STOPPED in reachable(AGENT_TRANSITIONS, state)
    assert AgentState.ONLINE in reachable(AGENT_TRANSITIONS, state)


def test_a_pause_taken_back_while_the_agent_drains_is_legal() -> None:
    check_transition(AGENT_TRANSITIONS, AgentState.DRAINING, AgentState.AUTHENTICATING)


def test_a_message_is_run_only_when_it_was_claimed() -> None:
    before = {state for state, after in MESSAGE_TRANSITIONS.items() if MessageState.DONE in after}
    assert before == {MessageState.RUNNING}


@given(st.sampled_from(TABLES), st.lists(st.integers(0, 20), max_size=30))
def test_a_walk_goes_exactly_where_the_table_lets_it(
    of: tuple[type[StrEnum], Mapping[Any, frozenset[Any]], Any], steps: list[int]
) -> None:
    states, table, at = of
    everything = list(states)
    for step in steps:
        new = everything[step % len(everything)]
        if new in table[at]:
            check_transition(table, at, new)  # type: ignore[arg-type]
            at = new
        else:
            with pytest.raises(IllegalTransitionError, match=f"{at} → {new}"):
                check_transition(table, at, new)  # type: ignore[arg-type]
