"""The way into the admin server: monitors are answered at once, and whoever else comes has the API made.

The API is what takes longest to load, and much of an idle process's memory; many processes are asked for health and
figures only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from supervisor.admin.answers import internal_error
from supervisor.admin.guard import Guard
from supervisor.admin.health import Health
from supervisor.admin.interface import AdminService

_PAGE: Final = Path(__file__).parent / "static" / "console.html"


def build_app(service: AdminService) -> ASGIApp:
    """The admin app over ``service``."""
    health = Health(service)

    def make_api() -> ASGIApp:
        from supervisor.admin.api import build_api  # noqa: PLC0415  what most starts do not need

        return build_api(service, health)

    return Guard(Door(health, make_api), service.settings, _PAGE.read_bytes())


class Door:
    """ASGI app: answers what monitors ask for, and hands everything else on.

    Args:
        make_api: makes the app for everything else; called in a thread when the first request for it comes.
    """

    def __init__(self, health: Health, make_api: Callable[[], ASGIApp]) -> None:
        self._answers: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
            "/livez": health.livez,
            "/readyz": health.readyz,
            "/metrics": health.metrics,
        }
        self._make_api = make_api
        self._api: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = self._answers.get(scope["path"]) if scope["method"] == "GET" else None
        request = Request(scope)
        try:
            app = await answer(request) if answer is not None else self._api or await self._made_api()
        except Exception as error:  # noqa: BLE001  bad luck of one request: the next one tries anew
            app = internal_error(request, error)
        await app(scope, receive, send)

    async def _made_api(self) -> ASGIApp:
        async with self._making:
            if self._api is None:
                self._api = await asyncio.to_thread(self._make_api)
            return self._api
