"""The fault switches over HTTP, and restarts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from supervisor.sandbox.control.requests import ControlError, body_of
from supervisor.sandbox.world.faults import UnknownFaultError, switch_named, switch_names
from supervisor.sandbox.world.routes import Route

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox

_DOWN_LIMIT_SECONDS = 3600.0


class Restart(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/restart``."""

    down_seconds: float = 0.0


class FaultControl:
    """Routes under ``/sandbox/faults``."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> Sequence[Route]:
        """The routes."""
        return (
            ("GET", "/faults", self.list_faults),
            ("PUT", "/faults/{name}", self.set_fault),
            ("DELETE", "/faults/{name}", self.clear_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("POST", "/restart", self.restart),
        )

    async def list_faults(self) -> Response:
        """Which switches there are, which are on, and how often each has struck."""
        faults = self._sandbox.faults
        return JSONResponse({"available": switch_names(), "active": faults.active(), "struck": dict(faults.struck)})

    async def set_fault(self, name: str, request: Request) -> Response:
        """Switch one on."""
        fault = await body_of(request, _switch(name))
        try:
            self._sandbox.faults.set(fault)
        except ValueError as error:
            raise ControlError(422, str(error)) from error
        return await self.list_faults()

    async def clear_fault(self, name: str) -> Response:
        """Switch one off."""
        self._sandbox.faults.clear(_switch(name))
        return await self.list_faults()

    async def clear_faults(self) -> Response:
        """Switch all off."""
        self._sandbox.faults.clear()
        return await self.list_faults()

    async def restart(self, request: Request) -> Response:
        """Go down, dropping every socket, and come back on the same port."""
        seconds = (await body_of(request, Restart)).down_seconds
        if not 0 <= seconds <= _DOWN_LIMIT_SECONDS:
            raise ControlError(422, f"downSeconds must be between 0 and {_DOWN_LIMIT_SECONDS:.0f}")
        self._sandbox.restart_soon(seconds)
        return JSONResponse({"downSeconds": seconds}, status_code=202)


def _switch(name: str) -> Any:
    try:
        return switch_named(name)
    except UnknownFaultError as error:
        raise ControlError(404, str(error)) from error
