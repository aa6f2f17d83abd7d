"""Signs of an agent's work are for those who are to see them; answers are for everybody."""

from __future__ import annotations

from itertools import product

import pytest

from supervisor.messages.visibility import SIGNS, visible
from supervisor.protocol import OutboundMessage
from supervisor.protocol.fields import FunctionCall, Thinking, ToolCall, ToolResult


def part(kind: str | None, **fields: object) -> OutboundMessage:
    return OutboundMessage(role="assistant", content="x", conversation_id="c", type=kind, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "bridged"), list(product(sorted(SIGNS), [False, True])))
def test_signs_of_work_are_shown_where_nobody_says_otherwise_but_not_over_a_bridge(kind: str, bridged: bool) -> None:
    assert (visible(part(kind), None, bridged=bridged) is None) is bridged
    assert visible(part(kind), [], bridged=bridged) is None
    assert visible(part(kind), [kind], bridged=bridged) == part(kind), "what a row shows is shown anywhere"
    others = SIGNS - {kind}
    assert visible(part(kind), sorted(others), bridged=bridged) is None


@pytest.mark.parametrize("kind", [None, "text", "error", "system"])
def test_answers_are_never_hidden(kind: str | None) -> None:
    assert visible(part(kind), [], bridged=True) == part(kind)


def test_an_answer_is_left_and_what_it_carries_is_hidden() -> None:
    call = ToolCall("1", "function", FunctionCall("f", "{}"))
    result = ToolResult(tool_call_id="1", tool_name="f", result=1, success=True)
    carried = {"thinking": Thinking(content="hm"), "tool_calls": (call,), "tool_results": (result,)}
    answer = part(None, **carried)
    assert visible(answer, None, bridged=False) == answer
    assert visible(answer, None, bridged=True) == part(None)
    assert visible(answer, ["thinking"], bridged=True) == part(None, thinking=carried["thinking"])
