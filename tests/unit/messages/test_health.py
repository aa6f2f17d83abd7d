"""A handler's health: what it says of itself goes before how the last message went."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.messages.health import FORBIDDEN, MAX_REASON_CHARS, Health
from supervisor.messages.secrecy import Secrecy
from supervisor.settings.secrets import SecretResolver
from supervisor.telemetry.logs import get_logger
from tests.support.observing import captured_logs

TOKEN = "plugh-token"


@pytest.fixture
def health() -> Health:
    resolver = SecretResolver(environ={}, env_prefixes=(), dirs=(Path("/nowhere"),), box=None)
    return Health(get_logger("test"), Secrecy(resolver, lambda: TOKEN))


def test_in_the_beginning_all_is_well(health: Health) -> None:
    assert (str(health), health.failing) == ("ok", False)


def test_a_message_that_failed_counts_until_one_is_answered(health: Health) -> None:
    health.failed("ValueError: no")
    assert (str(health), health.failing) == ("failing: ValueError: no", True)
    health.succeeded()
    assert (str(health), health.failing) == ("ok", False)


def test_what_the_handler_says_stands_until_it_takes_it_back(health: Health) -> None:
    health.report("the key is refused")
    health.failed("ValueError: no")
    health.succeeded()
    assert str(health) == "failing: the key is refused"
    health.failed("ValueError: no")
    health.report(None)
    assert str(health) == "ok", "who says that all is well means what was before, too"


def test_an_agent_that_may_not_write_is_failing_whatever_its_handler_says(health: Health) -> None:
    with captured_logs() as lines:
        health.permitted(True)
        health.permitted(False)
        health.permitted(False)
        health.report(None)
        health.succeeded()
        health.reset()
        assert str(health) == f"failing: {FORBIDDEN}"
        assert health.failing
        health.permitted(True)
        assert (str(health), health.failing) == ("ok", False)
    assert [line["event"] for line in lines] == ["health_failing", "health_ok"], "said once"


def test_another_handler_begins_with_nothing(health: Health) -> None:
    health.report("the key is refused")
    health.failed("ValueError: no")
    health.reset()
    assert str(health) == "ok"


def test_only_changes_of_what_it_says_are_logged(health: Health) -> None:
    with captured_logs() as log:
        health.report(None)
        health.report("the key is refused")
        health.report("the key is refused")
        health.report(None)
    assert [(line["event"], line.get("reason")) for line in log] == [
        ("health_failing", "the key is refused"),
        ("health_ok", None),
    ]


def test_a_reason_is_a_short_line_without_secrets(health: Health) -> None:
    health.report(f"not\n with {TOKEN}" + "x" * 1000)
    assert str(health).startswith("failing: not with [redacted]xxx")
    assert len(str(health)) == len("failing: ") + MAX_REASON_CHARS
    health.report("")
    assert str(health) == "failing: no reason given"
