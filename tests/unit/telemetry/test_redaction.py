"""Nothing secret and no payload is written or shown, wherever it stands."""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

import pytest

from supervisor.protocol.attachments import Attachment
from supervisor.telemetry import logs
from supervisor.telemetry.redaction import MAX_TEXT_CHARS, REDACTED, mask
from tests.support.logging import configured, fail, lines

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI2NTAifQ.c2lnbmF0dXJlLW9mLWl0"
# Made once: parametrised tests must be the same in every worker.
FERNET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CIPHERTEXT = "gAAAAABlU_EAAAECAwQFBgcICQoLDA0OD8qaK95dFWJ1xQnhKfiSQZXZwfcr4Qw8O-xQLOYNAwwimGZHDx7M16mZu6HE9p4U5g=="


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
        "redis://:s3cr3t-value@db/0",
        'postgresql://me:"s3cr3t-value"@db/x',
        "403 from https://s3cr3t-value@files.example/a",
        "403 from https://api.telegram.org/file/bot12345:s3cr3t-value/photos/1.jpg",
        "403 from https://api.telegram.org/file/bot12345%3As3cr3t-value/photos/1.jpg",
        "bot 1234567890:AAs3cr3t-value_abcdefghijklmnopqrst",
        "GET https://x.s3.example/a.png?X-Amz-Credential=s3cr3t-value&X-Amz-Signature=s3cr3t-value",
        "GET https://x.blob.example/a?sv=2022&sig=s3cr3t%2Bvalue#top",
        "GET https://cdn.example/a.png?ex=1&hm=s3cr3t-value",
    ],
)
def test_secrets_in_any_text_are_replaced(text: str, fmt: Literal["json", "console"]) -> None:
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


def test_of_a_file_that_came_along_the_host_is_written() -> None:
    stream = configured()
    file = Attachment("https://files.example/s3cr3t-value/a.png")
    logs.get_logger("x").info("event", file=file, files=(file,), message={"attachments": [file]})
    (line,) = lines(stream)
    assert line["file"] == line["files"][0] == line["message"]["attachments"][0] == "https://files.example/…"


@pytest.mark.parametrize(
    "text",
    [
        "GET https://x.example/api/conversations?limit=20&after=65f0&monkeys=2 answered 502",
        '{"url":"https://x.example","by":"me@x.example"}',
        "see https://x.example/@someone, 12:30, 1764534000:12, /bottom:up and 127.0.0.1:8080",
    ],
)
def test_urls_without_secrets_stay_readable(text: str) -> None:
    stream = configured()
    logs.get_logger("x").info("event", text=text)
    assert lines(stream)[0]["text"] == text


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
    logs.get_logger("x").info("event", text="a" * (MAX_TEXT_CHARS - 30) + " " + JWT)
    assert JWT[:30] not in stream.getvalue()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        *("eyJ" * 20_000, "token" * 20_000, "a" * 100_000, "'" * 100_000, "://a:" * 20_000),
        *(
            "://" * 30_000,
            "://" + "a:" * 50_000,
            "?key" * 20_000,
            "&" * 100_000,
            "/bot1:" * 20_000,
            "123456:" * 20_000,
            "1" * 100_000,
        ),
    ],
)
def test_hostile_text_takes_no_time(text: str) -> None:
    stream = configured()
    logs.get_logger("x").info("event", traceback=text, text=text)
    assert stream.getvalue()


def test_odd_numbers_are_still_json() -> None:
    stream = configured()
    logs.get_logger("x").info("event", a=float("nan"), b=float("inf"))
    line = json.loads(stream.getvalue(), parse_constant=pytest.fail)
    assert (line["a"], line["b"]) == ("nan", "inf")


def test_settings_are_masked_for_showing_and_otherwise_whole() -> None:
    shown = mask({"model": "m" * 900, "api_key": "abc", "nested": {"token": "x", "n": [1, JWT]}, "secret": "env:X"})
    assert shown == {
        "model": "m" * 900,
        "api_key": REDACTED,
        "nested": {"token": REDACTED, "n": [1, REDACTED]},
        "secret": "env:X",
    }
