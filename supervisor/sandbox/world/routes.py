"""How the parts of the HTTP side name their routes.

Starlette's own, as every test builds a sandbox and FastAPI takes a millisecond for each route.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

Handler = Callable[..., Awaitable[Response]]
Check = Callable[[Request], Awaitable[None]]

#: Method, path below the prefix, what answers: it takes the parts of the path by name, and ``request`` if it wants it.
Route = tuple[str, str, Handler]


def built_routes(prefix: str, routes: Iterable[Route], *, check: Check | None = None) -> Iterator[StarletteRoute]:
    """Routes as an application takes them, each after a prefix; ``check`` looks at every request first."""
    for method, path, handler in routes:
        yield StarletteRoute(f"{prefix}{path}", _endpoint(handler, check), methods=[method])


def _endpoint(handler: Handler, check: Check | None) -> Handler:
    wants_request = "request" in inspect.signature(handler).parameters

    async def answer(request: Request) -> Response:
        if check is not None:
            await check(request)
        return await handler(**request.path_params, **({"request": request} if wants_request else {}))

    return answer
