"""Keys and messages come back from what is stored of them as they went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.errors import RegistryError
from supervisor.core.states import FINAL_MESSAGE_STATES, FINAL_REPLY_STATES, MessageState, ReplyState
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.protocol.fields import Thinking, ToolResult, Usage
from supervisor.store.dialect import codec
from supervisor.store.sql import columns
from supervisor.store.sql.columns import OPEN_MESSAGES, OPEN_REPLIES

HEX = st.text("0123456789abcdefABCDEF", min_size=23, max_size=25)


@given(st.one_of(st.text(), HEX, st.text("a\x00é", min_size=10, max_size=14)))
def test_every_key_comes_back(key: str) -> None:
    assert columns.decode_key(columns.encode_key(key)) == key


@given(st.lists(st.one_of(st.text("\x00aé", max_size=14), HEX), unique=True))
def test_different_keys_stay_different(keys: list[str]) -> None:
    assert len({columns.encode_key(key) for key in keys}) == len(keys)


def test_the_platforms_own_ids_take_twelve_bytes() -> None:
    assert len(columns.encode_key("0123456789abcdef01234567")) == 12
    assert len(columns.encode_key("0123456789ABCDEF01234567")) == 24
    assert columns.encode_key("twelve-chars") == b"\x00twelve-chars"


def test_states_have_one_code_each_and_the_partial_indexes_hold_what_is_open() -> None:
    assert set(columns.MESSAGE_CODES) == set(MessageState)
    assert set(columns.REPLY_CODES) == set(ReplyState)
    assert len(columns.MESSAGE_STATES) == len(MessageState)
    assert len(columns.REPLY_STATES) == len(ReplyState)
    waiting = {s for s, code in columns.MESSAGE_CODES.items() if eval(OPEN_MESSAGES, {"state": code})}
    assert waiting == set(MessageState) - FINAL_MESSAGE_STATES | {MessageState.DEAD}
    on_their_way = {s for s, code in columns.REPLY_CODES.items() if eval(OPEN_REPLIES, {"state": code})}
    assert on_their_way == set(ReplyState) - FINAL_REPLY_STATES


def test_a_message_with_every_field_comes_back() -> None:
    outbound = OutboundMessage(
        role="assistant",
        content="xin chào \u2028 \U0001f600",
        conversation_id="c",
        id="a" * 24,
        type="tool_result",
        thinking=Thinking(content="hm", duration=12.5),
        tool_results=(ToolResult(tool_call_id="1", tool_name="t", result={"deep": [1, None]}, success=True),),
        attachments=("document:1",),
        usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        metadata={"any": {"thing": True}},
    )
    texts = codec.TextCodec()
    reply = columns.reply((7, "agent", 3, 1, "c", texts.body(outbound), 0, 1.5, 2, 3.5, "error", None))
    assert texts.reply(reply).message == outbound
    inbound = InboundMessage(conversation_id="c", role="user", content="héllo", id="b", attachments=("document:1",))
    stored = columns.message((1, "agent", b"\x00" * 12, "c", texts.body(inbound), 2, 1, 1.5, 0, 0.0, None, None))
    back = texts.message(stored)
    assert back.message == inbound
    assert back.key == "0" * 24
    assert back.state is MessageState.RUNNING


@pytest.mark.parametrize("content", ["\ud800", object()])
def test_what_is_no_json_is_refused_before_it_joins_a_batch(content: object) -> None:
    message = OutboundMessage(role="assistant", content="x", conversation_id="c", metadata={"bad": content})
    with pytest.raises(RegistryError, match="not JSON"):
        codec.TextCodec().body(message)


def test_a_long_traceback_keeps_its_end() -> None:
    kept = codec.cut("x" * 50_000 + "the cause \ud800")
    assert kept is not None
    assert len(kept) == codec.MAX_ERROR_CHARS
    assert kept.endswith("the cause ?")
