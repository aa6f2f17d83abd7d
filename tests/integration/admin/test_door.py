"""Monitors are answered without the API, which is made for the first who asks for more."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from supervisor.admin import AdminServer
from supervisor.admin.door import Door
from supervisor.admin.health import Health
from supervisor.settings import Settings
from supervisor.store import Registry
from tests.integration.admin.test_http import SmallService

#: What a start leaves alone while its agents go online and monitors ask.
_LATER = ("fastapi", "email_validator", "sqlalchemy", "alembic", "yaml")
_STARTS = f"""
import asyncio, sys
import aiohttp
from supervisor.service.service import Service
from supervisor.settings import Settings

def loaded():
    return [name for name in {_LATER} if name in sys.modules]

async def main():
    settings = Settings(admin_port=0, registry_url=sys.argv[1])
    service = await Service.start(settings)
    async with aiohttp.ClientSession(service.admin_url) as session:
        for path in ("/livez", "/readyz", "/metrics"):
            async with session.get(path) as answer:
                print(path, answer.status, loaded())
        async with session.get("/api/v1/status") as answer:
            print("status", answer.status, loaded()[:1])
    await service.stop()

asyncio.run(main())
"""


@asynccontextmanager
async def served(make_api: Callable[[], ASGIApp]) -> AsyncIterator[aiohttp.ClientSession]:
    server = AdminServer(Door(Health(SmallService(Settings(admin_port=0))), make_api), "127.0.0.1", 0)
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url) as session:
            yield session
    finally:
        await server.stop()


async def said(session: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with session.get(path) as answer:
        return answer.status, await answer.text()


async def test_a_start_loads_no_api_until_somebody_asks_for_more_than_health(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}"
    # Making the schema is what the very first start loads more for.
    await (await Registry.open(url, upgrade=True)).close()
    run = [sys.executable, "-c", _STARTS, url]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    found = [line for line in done.stdout.splitlines() if line.startswith(("/", "status"))]
    assert found == ["/livez 200 []", "/readyz 200 []", "/metrics 200 []", "status 200 ['fastapi']"], done.stderr


async def test_all_who_come_first_share_one_api() -> None:
    made: list[None] = []

    def make_api() -> ASGIApp:
        made.append(None)
        return PlainTextResponse("the API")

    async with served(make_api) as session:
        found = await asyncio.gather(*(said(session, f"/{number}") for number in range(20)))
    assert (found, len(made)) == ([(200, "the API")] * 20, 1)


async def test_an_api_that_cannot_be_made_is_made_for_the_next() -> None:
    apis: list[ASGIApp] = [PlainTextResponse("the API")]
    tried: list[None] = []

    def make_api() -> ASGIApp:
        tried.append(None)
        if len(tried) == 1:
            raise OSError(24, "Too many open files")
        return apis[0]

    async with served(make_api) as session:
        assert await said(session, "/api/v1/status") == (500, '{"error":"internal error; see the log"}')
        assert (await said(session, "/livez"))[0] == 200
        assert await said(session, "/api/v1/status") == (200, "the API")
