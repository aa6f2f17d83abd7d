"""Logs: one form for all, nothing secret, no payloads, and two lines for an outage."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from supervisor.telemetry import logs
from supervisor.telemetry.logs import REDACTED, OutageLog

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI2NTAifQ.c2lnbmF0dXJlLW9mLWl0"
# Made once: parametrised tests must be the same in every worker.
FERNET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CIPHERTEXT = "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD8qaK95dFWJ1xQnhKfiSQZXZwfcr4Qw8O-xQLOYNAwwimGZHDx7M16mZu6HE9p4U5g=="


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    # As it is before anything is configured: not structlog's own default, which writes to standard output.
    logs.get_logger("tests")


def configured(fmt: Any = "json", level: Any = "INFO") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, fmt, stream)
    return stream


def fail(text: str) -> None:
    raise ValueError(text)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_logs_and_those_of_libraries_have_one_form() -> None:
    stream = configured()
    logs.get_logger("supervisor.runner").info("agent online", conversation="c1", attempts=2, agent="a1")
    logging.getLogger("library").warning("disk %s", "full")
    ours, theirs = lines(stream)
    assert list(ours) == ["timestamp", "level", "event", "agent", "conversation", "attempts", "logger"]
    assert (ours["level"], ours["event"], ours["agent"], ours["attempts"]) == ("info", "agent online", "a1", 2)
    assert ours["timestamp"].endswith("Z")
    assert (theirs["level"], theirs["event"], theirs["logger"]) == ("warning", "disk full", "library")


async def test_what_a_task_logs_names_the_message_that_it_is_about() -> None:
    stream = configured()
    log, library = logs.get_logger("supervisor.agent"), logging.getLogger("library")

    async def work() -> None:
        logs.concern(agent="a1", conversation="c1", message_id="m1")
        log.info("ours")
        library.warning("theirs")
        await asyncio.create_task(beside())
        log.info("bound", message_id="m2")
        log.info("about another agent", agent="a2")
        logs.concern(agent="a1", conversation="c2")
        log.info("next")

    async def beside() -> None:
        await asyncio.to_thread(library.warning, "from a thread")

    await asyncio.create_task(work())
    log.info("about nothing")
    found = [tuple(line.get(name) for name in ("agent", "conversation", "message_id")) for line in lines(stream)]
    assert found[:3] == [("a1", "c1", "m1")] * 3
    assert found[3:] == [("a1", "c1", "m2"), ("a2", None, None), ("a1", "c2", None), (None, None, None)]
    assert list(lines(stream)[0]) == [
        *("timestamp", "level", "event", "agent", "conversation", "message_id"),
        "logger",
    ]


@pytest.mark.parametrize("fmt", ["json", "console"])
@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"401 from https://x.cloud/chat?token={JWT}&b=1",
        f"Authorization: Bearer {JWT}",
        "sent Bearer s3cr3t-admin",
        "connect(secret=s3cr3t-value, id=7)",
        'body {"secret": "s3cr3t-value"}',
        "{'accessToken': 's3cr3t-value'}",
        "access_token='s3cr3t value'",
        CIPHERTEXT,
        f"row fernet:{CIPHERTEXT}",
        f"bad key {FERNET_KEY} given",
        "postgresql://me:s3cr3t-value@db/x",
        "key sk-s3cr3tvalue123456",
    ],
)
def test_secrets_in_any_text_are_replaced(text: str, fmt: str) -> None:
    stream = configured(fmt)
    log = logs.get_logger("x")
    log.info(text)
    log.info("event", reason=text, nested={"deep": [{"text": text}]}, error=ValueError(text))
    logging.getLogger("library").warning("it said %s", text)
    try:
        fail(text)
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert written.count("redacted") >= 6
    for secret in (JWT, "s3cr3t", CIPHERTEXT, FERNET_KEY):
        assert secret not in written


@pytest.mark.parametrize(
    "key", ["secret", "token", "admin_token", "accessToken", "password", "api_key", "Authorization"]
)
def test_values_under_secret_names_are_replaced_whatever_they_look_like(key: str) -> None:
    stream = configured()
    logs.get_logger("x").info("event", **{key: "plain words"}, nested={key: ["plain words"]})
    assert "plain words" not in stream.getvalue()


def test_references_and_figures_stay_readable() -> None:
    stream = configured()
    logs.get_logger("x").info(
        "secret env:AGENT_X is not set", secret="env:AGENT_X", tokens=12, file="secret=file:/run/secrets/x"
    )
    (line,) = lines(stream)
    assert line["event"] == "secret env:AGENT_X is not set"
    assert (line["secret"], line["tokens"], line["file"]) == ("env:AGENT_X", 12, "secret=file:/run/secrets/x")


def test_payloads_are_cut_and_endless_values_end() -> None:
    stream = configured()
    endless: dict[str, Any] = {}
    endless["self"] = endless
    logs.get_logger("x").info("event", text="word " * 5000, raw=b"x" * 99, many=list(range(1000)), endless=endless)
    (line,) = lines(stream)
    assert len(line["text"]) < 600
    assert line["raw"] == "<99 bytes>"
    assert len(line["many"]) == 50
    assert len(stream.getvalue()) < 5000


def test_a_secret_that_the_cut_would_halve_is_replaced() -> None:
    stream = configured()
    logs.get_logger("x").info("event", text="a" * (logs.MAX_TEXT_CHARS - 30) + " " + JWT)
    assert JWT[:30] not in stream.getvalue()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", ["eyJ" * 20_000, "token" * 20_000, "a" * 100_000, "'" * 100_000, "://a:" * 20_000])
def test_hostile_text_takes_no_time(text: str) -> None:
    stream = configured()
    logs.get_logger("x").info("event", traceback=text, text=text)
    assert stream.getvalue()


def test_odd_numbers_are_still_json() -> None:
    stream = configured()
    logs.get_logger("x").info("event", a=float("nan"), b=float("inf"))
    line = json.loads(stream.getvalue(), parse_constant=pytest.fail)
    assert (line["a"], line["b"]) == ("nan", "inf")


def test_text_from_outside_forges_no_line() -> None:
    stream = configured("console")
    log = logs.get_logger("x")
    log.info("one\nFAKE", reason="two\n12:00:00 error FAKE \x1b[31m")
    log.info("event", traceback="first line\nsecond \x1b[2J line")
    assert len(stream.getvalue().splitlines()) == 4
    assert "\x1b" not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "variables", "coloured"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    terminal: bool, variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else io.StringIO()
    logs.configure("INFO", "console", stream)
    logs.get_logger("x").warning("agent offline", agent="a1", reason="two words", empty="")
    assert ("\x1b[" in stream.getvalue()) is coloured
    if not coloured:
        assert stream.getvalue()[8:].rstrip() == (
            ' warning  agent offline                agent=a1 reason="two words" empty=""'
        )


def test_chatty_libraries_need_a_warning_to_be_heard() -> None:
    stream = configured(level="DEBUG")
    for name in ("engineio.client", "socketio.client", "aiosqlite", "alembic.runtime.migration", "uvicorn.access"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    assert [line["event"] for line in lines(stream)] == ["trouble"] * 5


def test_the_level_is_kept_and_configuring_again_replaces_what_was() -> None:
    first = configured(level="WARNING")
    log = logs.get_logger("x")
    log.info("quiet")
    log.warning("loud")
    second = configured()
    log.info("later")
    assert [line["event"] for line in lines(first)] == ["loud"]
    assert [line["event"] for line in lines(second)] == ["later"]


def test_before_it_is_configured_nothing_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    logs.get_logger("supervisor.x").info("event", token=JWT)
    assert capfd.readouterr().out == ""


def test_bound_fields_and_tracebacks_are_written() -> None:
    stream = configured()
    log = logs.get_logger("x").bind(agent="a1")
    try:
        fail("wrong")
    except ValueError as error:
        log.error("handler failed", exc_info=error)
    (line,) = lines(stream)
    assert line["agent"] == "a1"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: wrong")


def test_settings_are_masked_for_showing_and_otherwise_whole() -> None:
    shown = logs.mask(
        {"model": "m" * 900, "api_key": "abc", "nested": {"token": "x", "n": [1, JWT]}, "secret": "env:X"}
    )
    assert shown == {
        "model": "m" * 900,
        "api_key": REDACTED,
        "nested": {"token": REDACTED, "n": [1, REDACTED]},
        "secret": "env:X",
    }


class ManualClock:
    seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("not used")


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends() -> None:
    stream, clock = configured(), ManualClock()
    outages = OutageLog(logs.get_logger("x"), clock, began="agent offline", ended="agent online again")
    assert outages.recovered("a1") is False
    assert outages.failed("a1", "refused", attempt=1) is True
    for _ in range(40):
        clock.seconds += 1.5
        assert outages.failed("a1", "refused") is False
    assert outages.failed("a2", "timeout") is True
    assert "a1" in outages
    assert outages.recovered("a1") is True
    outages.forget("a2")
    assert outages.recovered("a2") is False
    began, other, ended = lines(stream)
    assert (began["level"], began["event"], began["agent"], began["reason"], began["attempt"]) == (
        "warning",
        "agent offline",
        "a1",
        "refused",
        1,
    )
    assert other["agent"] == "a2"
    assert (ended["level"], ended["event"], ended["seconds"], ended["failures"]) == (
        "info",
        "agent online again",
        60.0,
        41,
    )


def test_without_a_stream_logs_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "console")
    logs.get_logger("x").info("event")
    captured = capsys.readouterr()
    assert "event" in captured.err
    assert captured.out == ""
    assert sys.stderr is not sys.stdout
