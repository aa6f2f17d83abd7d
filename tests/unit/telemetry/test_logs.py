"""One form for all logs, ours and the libraries'; each line names what it is about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys

import pytest
import structlog
import uvicorn

from supervisor.telemetry import logs
from tests.support.logging import configured, fail, lines

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI2NTAifQ.c2lnbmF0dXJlLW9mLWl0"


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
        logs.bind_message(agent="a1", conversation="c1", message_id="m1")
        log.info("ours")
        library.warning("theirs")
        await asyncio.create_task(beside())
        log.info("bound", message_id="m2")
        log.info("about another agent", agent="a2")
        logs.bind_message(agent="a1", conversation="c2")
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


def test_chatty_libraries_need_a_warning_to_be_heard() -> None:
    stream = configured(level="DEBUG")
    libraries = ["engineio.client", "socketio.client", "aiosqlite", "alembic.runtime.migration", "uvicorn.error"]
    for name in libraries:
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    assert [(line["logger"], line["event"]) for line in lines(stream)] == [(name, "trouble") for name in libraries]


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


def test_without_a_stream_logs_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "console")
    logs.get_logger("x").info("event")
    assert logs.flush()
    captured = capsys.readouterr()
    assert "event" in captured.err
    assert captured.out == ""
    assert sys.stderr is not sys.stdout


class Unspeakable:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error("no text")


@pytest.mark.parametrize("error", [TypeError, SystemExit])
def test_a_line_that_cannot_be_rendered_is_told_and_costs_no_other(
    capfd: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    stream = configured()
    log = logs.get_logger("handler")
    log.warning("first", found=Unspeakable(error))
    log.warning("next")
    odd, following = lines(stream)
    assert (odd["event"], odd["source"], odd["reason"]) == ("log_line_unwritable", "handler", error.__name__)
    assert ".py:" in odd["file"]
    assert following["event"] == "next"
    assert capfd.readouterr() == ("", ""), "nothing waits for standard error"


def test_lines_for_machines_are_ascii_where_the_stream_is_not_utf_8() -> None:
    written = io.BytesIO()
    logs.configure("INFO", "json", io.TextIOWrapper(written, encoding="latin-1"))
    logs.get_logger("x").info("Jürgen 😀", half="\ud83d")
    assert logs.flush()
    line = json.loads(written.getvalue().decode("ascii"))
    assert (line["event"], line["half"]) == ("Jürgen 😀", "\ud83d")


def test_half_a_character_costs_no_line() -> None:
    written = io.BytesIO()
    logs.configure("INFO", "json", io.TextIOWrapper(written, encoding="utf-8"))
    logs.get_logger("x").info("half", text="\ud83d")
    assert logs.flush()
    assert json.loads(written.getvalue())["text"] == "\ud83d"


def test_a_server_without_an_access_log_does_not_cut_off_its_warnings() -> None:
    uvicorn.Config(lambda: None, log_config=None, access_log=False)
    stream = configured()
    logging.getLogger("uvicorn.access").warning("trouble")
    assert [line["event"] for line in lines(stream)] == ["trouble"]
