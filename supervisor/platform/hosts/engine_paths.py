"""Whether a host's Engine.IO path is the right one: found out by a plain request.

At a wrong path the platform answers an upgrade with nothing: it ends it after a second, or lets it hang. A plain
request there is answered at once (docs/protocol.md#711-a-wrong-engine-path).
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError
from supervisor.platform.hosts.api import Answer, PlatformApi

#: For so long an answer holds for all agents of a host: a fleet that cannot connect asks once, not once for each.
LOOK_SECONDS: Final = 5.0
_ANSWER_BYTES: Final = 64 * 1024
_SCHEMES: Final = {"ws": "http", "wss": "https"}


class EnginePaths:
    """Looks at engine paths, for all agents.

    Args:
        api: makes the requests.
        clock: how long an answer holds.
    """

    def __init__(self, api: PlatformApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._looks: dict[tuple[str, str], tuple[float, asyncio.Task[bool | None]]] = {}

    def known_wrong(self, url: str, engine_path: str) -> bool:
        """Whether somebody has just found out that a path is wrong; arguments as for :meth:`speaks`."""
        until, look = self._looks.get(_key(url, engine_path), (0.0, None))
        if look is None or not look.done() or look.cancelled() or until <= self._clock.monotonic():
            return False
        return look.exception() is None and look.result() is False

    async def speaks(self, url: str, engine_path: str, *, proxy: str | None) -> bool | None:
        """Whether Engine.IO answers at a path.

        Args:
            url: the platform's Socket.IO URL; only its scheme and host count.
            engine_path: the path of the upgrade.
            proxy: an HTTP proxy's URL.

        Returns:
            None where there was no answer, or one that says neither.
        """
        key = _key(url, engine_path)
        now = self._clock.monotonic()
        until, look = self._looks.get(key, (0.0, None))
        if look is None or (look.done() and until <= now):
            self._looks = {known: one for known, one in self._looks.items() if one[0] > now or not one[1].done()}
            look = asyncio.create_task(self._look(url, engine_path, proxy), name=f"look at {engine_path}")
            self._looks[key] = (now + LOOK_SECONDS, look)
        return await asyncio.shield(look)

    async def _look(self, url: str, engine_path: str, proxy: str | None) -> bool | None:
        origin = URL(url).origin()
        origin = origin.with_scheme(_SCHEMES.get(origin.scheme, origin.scheme))
        asked = URL(f"{origin}{engine_path.rstrip('/')}/?EIO=4&transport=polling", encoded=True)
        try:
            return _speaks(await self._api.request("GET", asked, limit_bytes=_ANSWER_BYTES, proxy=proxy))
        except PlatformError:
            return None


def _key(url: str, engine_path: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", engine_path


def _speaks(answer: Answer) -> bool | None:
    """What an answer to a plain request says of the path."""
    body = answer.body or b""
    if answer.status == 200:
        # OPEN, as polling has it; anything else is a web page.
        return body.startswith(b"0{")
    if answer.status == 400:
        payload = answer.json()
        # Engine.IO's own refusals, such as "Transport unknown" where polling is switched off.
        return True if isinstance(payload, dict) and isinstance(payload.get("code"), int) else None
    return False if answer.status == 404 else None
