"""What is remembered of a host: each host and way in by itself, and nothing claimed that is not known."""

from __future__ import annotations

from supervisor.platform.hosts.facts import SILENCES, HostFacts, TokenForm, Way

CHAT = Way("/ws/chat", "/socket.io")


def test_hosts_and_ways_do_not_mix() -> None:
    facts = HostFacts()
    facts.api("one").token_form = TokenForm.BODY
    facts.sockets("one", CHAT).answered("agent:heartbeat")
    facts.registered("one", Way("/ws/agent", "/socket.io"))
    assert facts.api("one").token_form is TokenForm.BODY
    assert facts.api("two").token_form is TokenForm.PATH
    assert facts.sockets("one", CHAT).acks("agent:heartbeat") is True
    assert facts.sockets("one", Way("/", "/socket.io")).acks("agent:heartbeat") is None
    assert facts.sockets("one", Way("/ws/chat", "/chat/socket.io")).acks("agent:heartbeat") is None, "another process"
    assert facts.way("one") == Way("/ws/agent", "/socket.io")
    assert facts.way("two") is None


def test_an_event_counts_as_never_acknowledged_only_after_several_silences_in_a_row() -> None:
    known = HostFacts().sockets("one", CHAT)
    known.answered("agent:heartbeat")
    for _ in range(SILENCES - 1):
        known.unanswered("agent:heartbeat")
    assert known.acks("agent:heartbeat") is None  # slow, or gone: not known
    known.unanswered("agent:heartbeat")
    assert known.acks("agent:heartbeat") is False
    known.answered("agent:heartbeat")
    assert known.acks("agent:heartbeat") is True
    assert known.acks("message:typing") is None


def test_nobody_waits_for_what_was_never_acknowledged_and_a_platform_that_did_so_once_is_ill() -> None:
    facts = HostFacts()
    one, two = facts.sockets("one", CHAT), facts.sockets("two", CHAT)
    two.answered("conversation:join")
    for number in range(SILENCES):
        assert not one.never_acks("conversation:join"), number
        for known in (one, two):
            known.unanswered("conversation:join")
    assert (one.never_acks("conversation:join"), two.never_acks("conversation:join")) == (True, False)
    one.answered("conversation:join")
    assert not one.never_acks("conversation:join")
