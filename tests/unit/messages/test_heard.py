"""What two heard without an id is paired by what it says; everything else counts."""

from __future__ import annotations

from typing import Any, cast

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.messages.heard import Heard, has_nameless, still_meant, without_pairs
from supervisor.platform.connection import Connection
from supervisor.protocol import InboundMessage

SOURCE = cast("Connection", object())


def heard(content: str, **given: Any) -> Heard:
    return Heard(SOURCE, "message:new", {"conversationId": "c1", "role": "user", "content": content, **given})


def written(content: str, message_id: str | None = None) -> JournaledMessage:
    said = InboundMessage(id=message_id, conversation_id="c1", role="user", content=content)
    return JournaledMessage(1, "a1", "k", said, MessageState.DONE, 1, 100.0)


def test_each_that_was_written_pairs_with_one_that_says_the_same() -> None:
    three = [heard("hi"), heard("ho"), heard("hi")]
    assert without_pairs(three, [written("hi")]) == three[1:]
    assert without_pairs(three, [written("hi"), written("hi")]) == [three[1]]
    assert without_pairs(three, []) == three


def test_what_has_an_id_is_left_to_its_key_and_what_differs_counts() -> None:
    named = heard("hi", _id="6b0e417149398f1ef70f4428")
    other = heard("hi", conversationId="c2")
    assert without_pairs([named, other], [written("hi")]) == [named, other]
    assert without_pairs([heard("hi")], [written("hi", "6b0e417149398f1ef70f4428")]) == [heard("hi")]


def test_what_is_no_message_stays() -> None:
    odd = [Heard(SOURCE, "presence:update", {}), Heard(SOURCE, "message:new", "nonsense")]
    assert without_pairs(odd, [written("hi")]) == odd
    assert not has_nameless(odd)
    assert not has_nameless([heard("hi", _id="6b0e417149398f1ef70f4428")])
    assert has_nameless([*odd, heard("hi")])


def ordered(kind: str, conversation_id: object = "c1") -> Heard:
    return Heard(SOURCE, "agent:command", {"type": kind, "conversationId": conversation_id})


def test_a_stop_after_which_something_was_said_there_ends_nothing_any_more() -> None:
    before, stop, after = heard("a long question"), ordered("stop"), heard("another question")
    assert still_meant([before, stop, after], owner_obeyed=False) == [before, after]
    assert still_meant([before, stop, after], owner_obeyed=True) == [before, after]
    # What is said elsewhere is no matter of its, and one for the newest answer is still meant.
    elsewhere = heard("hi", conversationId="c2")
    assert still_meant([stop, before, stop, elsewhere], owner_obeyed=True) == [before, stop, elsewhere]


def test_what_the_owner_answered_is_not_answered_again_and_the_rest_stays_in_its_order() -> None:
    all_of_them = [ordered(kind) for kind in ("sleep", "inspect", "reload", "wake")]
    assert still_meant(all_of_them, owner_obeyed=False) == all_of_them
    assert still_meant(all_of_them, owner_obeyed=True) == [one for one in all_of_them if one != ordered("inspect")]
    odd = [Heard(SOURCE, "agent:command", "nonsense"), ordered("stop", 7), Heard(SOURCE, "message:new", None)]
    assert still_meant(odd, owner_obeyed=True) == odd
