"""The chat page and its files, with headers that let nothing else in."""

import re
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from supervisor.sandbox.world.routes import Route

_DIRECTORY = Path(__file__).parent / "chat"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


class Pages:
    """Serves the files of ``chat/``, read once."""

    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in _DIRECTORY.iterdir() if path.suffix in _TYPES}

    def routes(self) -> Iterator[Route]:
        """``/`` and what it loads."""
        yield "GET", "/", self.page
        yield "GET", "/favicon.ico", self.favicon
        yield "GET", "/chat/{name}", self.file

    async def page(self, request: Request) -> Response:
        """The page."""
        return self._answer("index.html", request)

    async def favicon(self, request: Request) -> Response:
        """Its icon, for browsers that ask without looking at the page."""
        return self._answer("favicon.svg", request)

    async def file(self, name: str, request: Request) -> Response:
        """A file that the page loads."""
        return self._answer(name, request)

    def _answer(self, name: str, request: Request) -> Response:
        body = self._files.get(name)
        if body is None:
            return JSONResponse({"error": f"there is no {name}"}, status_code=404)
        return Response(body, media_type=_TYPES[Path(name).suffix], headers=_headers(request))


def _headers(request: Request) -> dict[str, str]:
    host = request.headers.get("host", "")
    # 'self' covers WebSockets in current browsers, older ones want the address spelled out.
    socket = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{socket}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
