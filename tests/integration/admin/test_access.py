"""Signing in to the console, and a token that reads only, over real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from pydantic import SecretStr

from supervisor.admin.access import SESSION_SECONDS, Access, Tokens
from supervisor.core.errors import ConfigurationError
from supervisor.settings import Settings, load_settings
from tests.support.admin_api import ADMIN_TOKEN, Admin, admin, operations

READ_TOKEN = "r3ad-t0ken-of-the-test"
FULL, READ = {"Authorization": f"Bearer {ADMIN_TOKEN}"}, {"Authorization": f"Bearer {READ_TOKEN}"}
TOKENS = {"admin_token": SecretStr(ADMIN_TOKEN), "admin_read_token": SecretStr(READ_TOKEN)}


@asynccontextmanager
async def signed_in(api: Admin, token: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser's cookies after signing in."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.post(api.fleet.service.admin_url + "/session", json={"token": token}) as answer:
            assert answer.status == 200, await answer.text()
        yield session


async def test_a_browser_signs_in_once_and_out_again(tmp_path: Path) -> None:
    async with admin(tmp_path, **TOKENS) as api:
        base = api.fleet.service.admin_url
        async with signed_in(api, ADMIN_TOKEN) as session:
            [cookie] = session.cookie_jar
            assert cookie.key == f"supervisor-session-{urlsplit(base).port}", "ports share their cookies"
            assert (cookie["samesite"].lower(), cookie["httponly"], cookie["secure"]) == ("strict", True, "")
            assert (cookie["path"], int(cookie["max-age"])) == ("/", SESSION_SECONDS)
            assert ADMIN_TOKEN not in cookie.value
            for path in ("/", "/api/v1/status", f"/api/v1/agents/{api.agent}"):
                async with session.get(base + path) as answer:
                    assert answer.status == 200
            async with session.get(base + "/session") as answer:
                assert await answer.json() == {"access": "full", "token_required": True}
            async with session.delete(base + "/session") as answer:
                assert answer.status == 204
            assert not list(session.cookie_jar)
            async with session.get(base + "/api/v1/status") as answer:
                assert answer.status == 401
            async with session.get(base + "/session") as answer:
                assert await answer.json() == {"access": None, "token_required": True}
        async with api.session.post(base + "/session", json={"token": "wrong"}) as answer:
            assert (answer.status, "Set-Cookie" in answer.headers) == (401, False)
        secure = {"Origin": "https://fleet.example", "Host": "fleet.example"}
        async with api.session.post(base + "/session", json={"token": ADMIN_TOKEN}, headers=secure) as answer:
            assert "supervisor-session=" in answer.headers["Set-Cookie"], "the port is the scheme's own"
            assert "Secure" in answer.headers["Set-Cookie"]


async def test_another_ports_page_cannot_use_the_cookie(tmp_path: Path) -> None:
    async with admin(tmp_path, **TOKENS) as api, signed_in(api, ADMIN_TOKEN) as session:
        base = api.fleet.service.admin_url
        pause = f"{base}/api/v1/agents/{api.agent}/pause"
        foreign = [
            {},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": base, "Sec-Fetch-Site": "same-site"},
            {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        ]
        for headers in foreign:
            async with session.post(pause, headers=headers) as answer:
                assert answer.status == 403, headers
        assert not api.fleet.service.control.status(api.agent).paused
        for headers in ({"Origin": base}, {"Origin": "https://proxied.example", "Sec-Fetch-Site": "same-origin"}):
            async with session.post(pause, headers=headers) as answer:
                assert answer.status == 200, headers


async def test_a_token_that_reads_only_changes_nothing_and_sees_nobodys_words(tmp_path: Path) -> None:
    async with admin(tmp_path, **TOKENS) as api, signed_in(api, READ_TOKEN) as session:
        secrets = ["hello", "tool refused", 'max_attempts":1', "Traceback", "RuntimeError"]
        for operation in operations(api.described):
            if not operation.path.startswith("/api/"):
                continue
            status, body = await api.ask(operation.method, api.plain(operation), headers=READ, data=b"{}")
            assert status == (200 if operation.method == "GET" else 403), operation
            if operation.path != "/api/v1/settings-schema":
                assert not [one for one in secrets if one in body], (operation, body)
        base = api.fleet.service.admin_url
        async with session.post(f"{base}/api/v1/agents/{api.agent}/pause", headers={"Origin": base}) as answer:
            assert answer.status == 403
        assert not api.fleet.service.control.status(api.agent).paused
        every = "&".join(f"state={one}" for one in ("available", "running", "retryable", "dead", "done", "cancelled"))
        shown = await said(api, f"/api/v1/messages?{every}", READ)
        assert {(one["content"], one["reason"], one["state"]) for one in shown} == {("", "", "dead")}
        assert shown[0]["content_chars"] == 5
        details = await said(api, f"/api/v1/messages/{api.message}", READ)
        assert (details["content"], details["error"], details["attachments"]) == ("", "", [])
        one = await said(api, f"/api/v1/agents/{api.agent}", READ)
        assert (one["settings"], one["health"], one["trouble"]) == ({}, "failing", "failing")
        assert (await api.ask("GET", "/api/v1/events?kind=log", headers=READ))[0] == 403
        _, lines = await api.ask("GET", "/api/v1/events?last=1000&follow=false", headers=READ)
        assert "event: state" in lines
        assert "event: log" not in lines
        # The same of who may see everything.
        full = await said(api, f"/api/v1/messages/{api.message}", FULL)
        assert (full["content"], "Traceback" in full["error"]) == ("hello", True)


async def said(api: Admin, target: str, headers: dict[str, str]) -> Any:
    status, body = await api.ask("GET", target, headers=headers)
    assert status == 200, body
    return json.loads(body)


def test_a_cookie_is_of_its_token_and_ends() -> None:
    tokens = Tokens(Settings(admin_token=SecretStr("full"), admin_read_token=SecretStr("read")))
    now = time.time()
    for access in Access:
        cookie = tokens.cookie(access, now)
        assert tokens.of_cookie(cookie, now) is access
        assert tokens.of_cookie(cookie, now + SESSION_SECONDS + 1) is None
        assert Tokens(Settings(admin_token=SecretStr("other"))).of_cookie(cookie, now) is None
    read = tokens.cookie(Access.READ, now)
    forged = [read.replace("read", "full", 1), "", ".", "..", "full", f"full.{int(now) + 99}.", "full.1e9.x", "é.1.é"]
    forged += [read[:-1] + ("0" if read[-1] != "0" else "1"), read.replace(read.split(".")[1], "9" * 12)]
    for cookie in forged:
        assert tokens.of_cookie(cookie, now) is None, cookie


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SUPERVISOR_ADMIN_READ_TOKEN": "r"}, "no bound without ADMIN_TOKEN"),
        ({"SUPERVISOR_ADMIN_READ_TOKEN": "r", "SUPERVISOR_ADMIN_TOKEN": "r"}, "the same as ADMIN_TOKEN"),
    ],
)
def test_a_token_for_readers_stands_beside_another(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said):
        load_settings()
