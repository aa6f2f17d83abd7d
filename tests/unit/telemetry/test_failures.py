"""What is said of exceptions: enough to act on, nothing secret, nothing that cannot be written."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.errors import HandlerError
from supervisor.handlers.folder import split_reference
from supervisor.handlers.foreign import contained
from supervisor.telemetry import redaction
from supervisor.telemetry.failures import MAX_REASON_CHARS, MAX_TRACEBACK_CHARS, describe, describe_fully

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
OPAQUE = "abc/123+def=456"


def redact(text: str) -> str:
    """As an agent does it, by value and by pattern."""
    return redaction.redact(text.replace(OPAQUE, redaction.REDACTED))


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301  for its traceback
    except BaseException as caught:
        return caught


@pytest.mark.parametrize("say", [describe, describe_fully])
@pytest.mark.parametrize("text", [f"key {OPAQUE} refused", f"Authorization: Bearer {JWT}", f"?token={JWT}"])
def test_secrets_are_replaced(say: Any, text: str) -> None:
    said = say(raised(RuntimeError(text)), redact)
    assert "[redacted]" in said
    for secret in (OPAQUE, *JWT.split(".")):
        assert secret not in said


def test_what_looks_secret_is_replaced_without_being_known() -> None:
    assert describe(RuntimeError(f"Bearer {JWT}")) == "RuntimeError: Bearer [redacted]"


def test_causes_and_notes_are_cleaned_too() -> None:
    cause = RuntimeError(f"sent {OPAQUE}")
    error = LookupError("gone")
    error.__cause__ = cause
    error.add_note(f"with {OPAQUE}")
    said = describe_fully(raised(error), redact)
    assert OPAQUE not in said
    assert said.count("[redacted]") == 2
    assert said.rstrip().endswith("with [redacted]")


@pytest.mark.parametrize("length", [100, MAX_TRACEBACK_CHARS, MAX_TRACEBACK_CHARS * 8, 2_000_000])
def test_a_secret_is_not_cut_into_something_that_nobody_recognises(length: int) -> None:
    """Wherever the cut falls: each length moves it on by one."""
    for shift in range(len(OPAQUE) + 2):
        error = raised(RuntimeError(f"{OPAQUE}{'x' * (length - shift)}{OPAQUE}"))
        said = describe_fully(error, redact) + describe(error, redact)
        assert OPAQUE[-6:] not in said
        assert OPAQUE[:6] not in said


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", ["x" * 5_000_000, "eyJ" * 1_000_000, "://a:" * 1_000_000, "a b\n" * 1_000_000])
def test_a_text_without_end_takes_no_time(text: str) -> None:
    """It is made in the event loop; a pattern that is quadratic in the text would run into the test's own limit."""
    error = raised(RuntimeError(text))
    assert len(describe(error)) <= MAX_REASON_CHARS
    assert len(describe_fully(error)) <= MAX_TRACEBACK_CHARS


def test_a_reason_names_the_exception_and_what_it_says() -> None:
    assert describe(ValueError("no")) == "ValueError: no"
    assert describe(ValueError()) == "ValueError"


def test_a_traceback_begins_where_the_code_of_whoever_raised_it_does() -> None:
    def fails() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError) as caught:
        contained(fails)
    error = caught.value
    # As whoever calls handlers sees it: from the call on.
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    lines = describe_fully(error).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("in fails")
    assert lines[-1] == "LookupError: nothing there"
    # Where all of it is ours, it is shown.
    with pytest.raises(HandlerError) as ours:
        split_reference("no:such:thing")
    assert "in split_reference" in describe_fully(ours.value)


def test_an_exception_without_a_text_is_named_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError("no words")

    assert describe(Mute()) == "Mute: (its text cannot be had)"
    assert "Mute" in describe_fully(raised(Mute()))


def test_a_lone_surrogate_is_written_out() -> None:
    assert describe(ValueError("torn \ud800 text")) == "ValueError: torn \\ud800 text"
