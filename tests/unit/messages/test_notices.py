"""What an agent says in place of an answer is told apart from what it answers."""

from __future__ import annotations

from supervisor.messages.notices import APOLOGY, APOLOGY_TIMEOUT, FULL_NOTICE, NOTICES, SPENT_NOTICE, UNASKED


def test_what_goes_out_without_the_outbox_is_a_notice_and_an_apology_answers_its_message() -> None:
    assert {FULL_NOTICE, SPENT_NOTICE, APOLOGY, APOLOGY_TIMEOUT} == NOTICES
    assert UNASKED < NOTICES
    assert not UNASKED & {APOLOGY, APOLOGY_TIMEOUT}
