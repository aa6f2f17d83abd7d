"""Who may use the sandbox's own HTTP side.

The switches can stop a fleet, so a web page from elsewhere must not reach them: requests whose ``Host`` is not this
machine (while the sandbox listens on loopback) or whose ``Origin`` is another one are refused.
"""

import ipaddress
import urllib.parse
from collections.abc import Awaitable, Callable

from starlette.requests import Request

from supervisor.sandbox.control.requests import ControlError


def guard(listens_on: str) -> Callable[[Request], Awaitable[None]]:
    """A check of each request, for a sandbox that listens on this address."""

    async def check(request: Request) -> None:
        host = request.headers.get("host", "")
        if _is_loopback(listens_on) and not _is_loopback(urllib.parse.urlsplit(f"//{host}").hostname):
            raise ControlError(403, f"this sandbox answers control requests to this machine only, not to host {host!r}")
        origin = request.headers.get("origin")
        if origin is not None and urllib.parse.urlsplit(origin).netloc != host:
            raise ControlError(403, f"control requests from another origin ({origin}) are refused")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise ControlError(403, "control requests from another site are refused")

    return check


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
