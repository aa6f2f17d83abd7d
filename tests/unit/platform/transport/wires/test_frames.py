"""Frames are read as python-socketio's codec reads them: what it decodes and what it refuses, beside ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from socketio import packet

from supervisor.platform.transport.wires.frames import MalformedFrameError, Namespace

NAMESPACES = ["/", "/ws", "/dev/aiwm/chat"]
#: Integers as both write them; floats as JSON has them.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
)
IDS = st.none() | st.integers(0, 10**15 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
#: What frames are made of, put together as it comes.
PIECES = ["4", "2", "3", "0", "5", "1-", "/ws", "/", ",", "17", "0" * 16, "[", "]", '"x"', "{}", "null", " ", "-", "?"]


def library_reads(text: str) -> tuple[str, int, int | None, Any] | None:
    """Namespace, type, id and data of a MESSAGE as the library's codec reads it; None for what it refuses."""
    if not text.startswith("4"):
        return None
    try:
        read = packet.Packet(encoded_packet=text[1:])
    except (ValueError, IndexError, RecursionError):
        return None
    return read.namespace or "/", read.packet_type, read.id, read.data


@given(st.sampled_from(NAMESPACES), NAMES, st.lists(VALUES, max_size=3), IDS)
def test_an_event_is_what_the_library_wrote(name: str, event: str, arguments: list[Any], ack_id: int | None) -> None:
    text = "4" + packet.Packet(packet.EVENT, [event, *arguments], name, ack_id).encode()
    frames = Namespace(name)
    assert text.startswith(frames.event)
    assert frames.read_event(text) == (event, arguments[0] if arguments else None, ack_id)


@given(st.sampled_from(NAMESPACES), st.lists(VALUES, max_size=3), IDS)
def test_an_ack_is_what_the_library_wrote(name: str, arguments: list[Any], ack_id: int | None) -> None:
    text = "4" + packet.Packet(packet.ACK, arguments, name, ack_id or 0).encode()
    assert Namespace(name).read_ack(text) == (ack_id or 0, arguments)


@given(st.sampled_from(NAMESPACES), NAMES, VALUES, IDS)
def test_the_library_reads_what_is_written_here(name: str, event: str, payload: Any, ack_id: int | None) -> None:
    written = Namespace(name).encode_event(event, payload, ack_id).decode()
    assert library_reads(written) == (name, packet.EVENT, ack_id, [event, payload])


@given(st.sampled_from(NAMESPACES), st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join))
@example("/ws", '42/ws,["x",{}]')
@example("/ws", "42/ws,7[]")
@example("/", '42/ws,["x"]')
@example("/ws", '451-/ws,["x",{"_placeholder":true,"num":0}]')
def test_any_text_is_the_same_event_to_both_or_refused(name: str, tail: str) -> None:
    frames = Namespace(name)
    for text in (tail, frames.event + tail):
        if not text.startswith(frames.event):
            continue
        try:
            read = frames.read_event(text)
        except MalformedFrameError:
            read = None
        theirs = library_reads(text)
        if read is not None:
            assert theirs is not None
            _, kind, ack_id, data = theirs
            assert (kind, ack_id, data[0], data[1] if len(data) > 1 else None) == (
                packet.EVENT,
                read[2],
                read[0],
                read[1],
            )
        elif theirs is not None:
            assert refused_with_reason(theirs, name, text)


def refused_with_reason(theirs: tuple[str, int, int | None, Any], name: str, text: str) -> bool:
    """Whether an event that the library reads is one of the few that are refused here on purpose."""
    namespace, _, ack_id, data = theirs
    nameless = not isinstance(data, list) or not data or not isinstance(data[0], str)
    foreign = namespace != name
    long_id = ack_id is not None and ack_id >= 10**15
    # Python's int() and isdigit() also know digits of other scripts, and its JSON spaces before an array.
    odd_spelling = not text.isascii() or text[text.find(",") + 1 :].lstrip("0123456789")[:1].isspace()
    padded_id = "0" * 15 in text
    return nameless or foreign or long_id or odd_spelling or padded_id or not is_json(text)


def is_json(text: str) -> bool:
    """Whether what comes after the id is JSON; Python's reader also takes NaN and Infinity."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text[text.index("[") :], parse_constant=refuse)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_no_json_are_refused_where_the_library_takes_them(number: str) -> None:
    text = f'42/ws,["x",{number}]'
    assert library_reads(text) is not None
    with pytest.raises(MalformedFrameError, match="bad_json"):
        Namespace("/ws").read_event(text)
