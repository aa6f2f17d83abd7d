"""Messages without an id on two sockets: each counts once, and a duplicate is better than a loss."""

from __future__ import annotations

from supervisor.messages.pairing import PAIR_SECONDS, Pairing
from supervisor.platform.connection import Connection
from supervisor.protocol import InboundMessage

CONVERSATION = "c" * 24


def socket(since: float | None = 0.0) -> Connection:
    """A socket that has been in the conversation since some time, or does not know."""
    made = Connection("a" * 24, on_event=lambda *_: None)
    if since is not None:
        made.record_member(CONVERSATION, since)
    return made


def message(content: str = "ok") -> InboundMessage:
    return InboundMessage(conversation_id=CONVERSATION, role="user", content=content, external_username="ann#1")


def accepted(*deliveries: tuple[Connection, float, str]) -> list[bool]:
    pairing = Pairing()
    return [not pairing.is_second(message(content), wire, at) for wire, at, content in deliveries]


async def test_each_message_counts_once_whichever_socket_is_first() -> None:
    old, new = socket(), socket()
    assert accepted((old, 1, "a"), (new, 1.1, "a"), (new, 2, "b"), (old, 2.1, "b")) == [True, False, True, False]


async def test_somebody_who_says_the_same_twice_is_heard_twice() -> None:
    old, new = socket(), socket()
    assert accepted((old, 1, "ok"), (old, 2, "ok"), (new, 2, "ok"), (new, 2, "ok")) == [True, True, False, False]
    assert accepted((old, 1, "ok"), (new, 1, "ok"), (new, 2, "ok"), (old, 2, "ok")) == [True, False, True, False]


async def test_one_socket_never_pairs_with_itself() -> None:
    only = socket()
    assert accepted((only, 1, "ok"), (only, 1.01, "ok"), (only, 1.02, "ok")) == [True, True, True]


async def test_what_came_before_a_socket_was_in_the_conversation_is_another_message() -> None:
    old, new = socket(), socket(since=5.0)
    assert accepted((old, 4.9, "ok"), (new, 5.1, "ok"), (old, 5.2, "ok")) == [True, True, False]


async def test_a_socket_that_may_not_be_in_the_conversation_pairs_with_nothing() -> None:
    old, new = socket(), socket(since=None)
    assert accepted((old, 1, "ok"), (new, 1.1, "ok")) == [True, True]


async def test_a_twin_that_comes_a_minute_late_is_none() -> None:
    old, new = socket(), socket()
    assert accepted((old, 0, "ok"), (new, PAIR_SECONDS + 1, "ok")) == [True, True]
