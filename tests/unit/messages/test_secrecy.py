"""An agent's secrets get nowhere: its own, its token, and those that its handler asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.errors import ConfigurationError
from supervisor.messages.secrecy import MAX_READ_CHARS, MAX_RESOLVED, Secrecy
from supervisor.settings.secrets import SecretResolver

OWN, TOKEN, OTHER = "xyzzy-own", "plugh-token", "frotz-other"


class Desk:
    """The secrets of an agent whose variables and token the test sets."""

    def __init__(self) -> None:
        self.environ = {"AGENT_OWN": OWN, "AGENT_OTHER": OTHER}
        self.token = ""
        resolver = SecretResolver(environ=self.environ, env_prefixes=("AGENT_",), dirs=(Path("/nowhere"),), box=None)
        self.secrecy = Secrecy(resolver, lambda: self.token)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_its_own_secret_is_taken_out_once_it_is_known(desk: Desk) -> None:
    said = f"the key is {OWN}."
    assert desk.secrecy.redact(said) == said
    desk.secrecy.use("env:AGENT_OWN")
    assert desk.secrecy.redact(said) == "the key is [redacted]."


def test_the_token_is_the_one_of_this_moment(desk: Desk) -> None:
    desk.token = "plugh-older"
    assert desk.secrecy.redact(f"plugh-older {TOKEN}") == f"[redacted] {TOKEN}"
    desk.token = TOKEN
    assert desk.secrecy.redact(f"plugh-older {TOKEN}") == "plugh-older [redacted]"


def test_what_a_handler_asked_for_stays_a_secret_after_it_was_rotated(desk: Desk) -> None:
    assert desk.secrecy.resolve("env:AGENT_OTHER") == OTHER
    desk.environ["AGENT_OTHER"] = "frotz-newer"
    assert desk.secrecy.resolve("env:AGENT_OTHER") == "frotz-newer"
    assert desk.secrecy.redact(f"{OTHER} and frotz-newer") == "[redacted] and [redacted]"


def test_no_more_are_remembered_than_the_bound(desk: Desk) -> None:
    for number in range(MAX_RESOLVED + 1):
        desk.environ["AGENT_OTHER"] = f"frotz{number:04}"
        desk.secrecy.resolve("env:AGENT_OTHER")
    assert desk.secrecy.redact("frotz0000 frotz0001") == "frotz0000 [redacted]"


@pytest.mark.parametrize("reference", ["env:PATH", "env:AGENT_NOBODY", "plain", "", 7, None, {"env": "AGENT_OTHER"}])
def test_what_is_no_reference_is_refused(desk: Desk, reference: object) -> None:
    with pytest.raises(ConfigurationError):
        desk.secrecy.resolve(reference)  # type: ignore[arg-type]


def test_a_secret_of_a_few_letters_blanks_out_no_words(desk: Desk) -> None:
    desk.environ["AGENT_OWN"] = "and"
    desk.secrecy.use("env:AGENT_OWN")
    assert desk.secrecy.redact("this and that") == "this and that"


def test_what_looks_like_a_secret_is_taken_out_too(desk: Desk) -> None:
    assert desk.secrecy.redact("Authorization: Bearer abcdefgh") == "Authorization: Bearer [redacted]"


def test_what_is_shown_is_one_line_and_redacted_before_it_is_cut(desk: Desk) -> None:
    desk.secrecy.use("env:AGENT_OWN")
    assert desk.secrecy.shown(f"a\n  b\tc {OWN}", 100) == "a b c [redacted]"
    assert desk.secrecy.shown(f"abcd {OWN}", 9) == "abcd [red"
    assert desk.secrecy.shown(ValueError("no"), 100) == "no"
    assert len(desk.secrecy.shown("x" * 2 * MAX_READ_CHARS, 3 * MAX_READ_CHARS)) == MAX_READ_CHARS
