"""Faults at the wire that strike before there is a session or an answer: an ASGI layer around everything else."""

import asyncio
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

from starlette.requests import ClientDisconnect

from supervisor.sandbox.rest import error_answer
from supervisor.sandbox.world.faults import Cookies, Delay, Handshake, Hang, Rest, RestTarget
from supervisor.sandbox.world.log import TokenRequest
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.tokens import InvalidTokenError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[Any]]
Target = RestTarget | Literal["other"]

_TARGETS: tuple[tuple[Target, re.Pattern[str]], ...] = (
    ("token", re.compile(r"/agents/(?:(?P<agent>[^/]+)/)?connect")),
    ("presence", re.compile(r"/agents/(?:(?P<agent>[^/]+)/)?(?:heartbeat|disconnect)")),
    ("history", re.compile(r"/(?:messages|actions)/conversation/[^/]+(?:/last/[^/]+)?")),
    ("conversations", re.compile(r"/conversations(?:/agent/(?P<agent>[^/]+))?")),
    ("config", re.compile(r"/agents/(?P<agent>[^/]+)/(?:config|instruction)")),
    ("inference", re.compile(r"/deployments/[^/]+/inference/.*")),
    ("files", re.compile(r"/files/upload")),
)

_PROXY_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class FaultLine:
    """Sends requests to Engine.IO or to the routes, unless a switch strikes first."""

    def __init__(
        self,
        shared: Shared,
        *,
        engine: AsgiApp,
        engine_paths: tuple[str, ...],
        routes: AsgiApp,
        reset: Callable[[Scope], None],
    ) -> None:
        self._config = shared.config
        self._engine = engine
        self._routes = routes
        self._faults = shared.faults
        self._state = shared.state
        self._tokens = shared.tokens
        self._reset = reset
        self._engine_paths = engine_paths
        self._cookies = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await self._dispatch(scope, receive, send)
        except (asyncio.CancelledError, ClientDisconnect):
            # The sandbox went down and has reset the connection, or the client has: there is nobody left to answer.
            return

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._faults.get(Cookies) is not None:
            send = self._with_cookie(send)
        if any(f"{scope['path']}/".startswith(f"{path}/") for path in self._engine_paths):
            await self._to_engine(scope, receive, send)
        else:
            # HTTP: upgrades elsewhere do not come this far.
            await self._to_routes(scope, receive, send)

    def _with_cookie(self, send: Send) -> Send:
        async def setting(message: MutableMapping[str, Any]) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                self._faults.strike(Cookies)
                cookie = f"affinity=node-{next(self._cookies)}; Path=/".encode()
                message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie)]}
            await send(message)

        return setting

    async def _to_engine(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_new = b"sid=" not in scope["query_string"]
        fault = self._faults.strike(Handshake) if is_new else None
        if fault is None and is_new and self._faults.get(Hang) is not None:
            fault = Handshake(mode="silent")
        if fault is None:
            # python-engineio returns what it sent; ASGI wants nothing returned.
            await self._engine(scope, receive, send)
            return
        self._state.log.add("handshake_fault", None, mode=fault.mode)
        if fault.mode == "reset":
            await self._reset_and_wait(scope, receive)
        elif scope["type"] == "http":
            await self._fail_polling(fault, receive, send)
        else:
            await self._fail_websocket(fault, receive, send)

    async def _reset_and_wait(self, scope: Scope, receive: Receive) -> None:
        self._reset(scope)
        await _until_gone(receive, f"{scope['type']}.disconnect")

    @staticmethod
    async def _fail_polling(fault: Handshake, receive: Receive, send: Send) -> None:
        if fault.mode == "silent":
            await _until_gone(receive, "http.disconnect")
        else:
            await _answer(send, fault.status if fault.mode == "refuse" else 502, b"", b"text/plain")

    @staticmethod
    async def _fail_websocket(fault: Handshake, receive: Receive, send: Send) -> None:
        await receive()
        if fault.mode == "refuse":
            await send({"type": "websocket.http.response.start", "status": fault.status, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b""})
            return
        await send({"type": "websocket.accept"})
        if fault.mode == "silent":
            await _until_gone(receive, "websocket.disconnect")
        else:
            await send({"type": "websocket.close", "code": 1011})

    async def _to_routes(self, scope: Scope, receive: Receive, send: Send) -> None:
        target, agent_id = self._target(scope)
        if target == "token" and agent_id is None:
            agent_id, receive = await _agent_of_body(receive)
        if target == "other":
            await self._routes(scope, receive, send)
        elif target == "token":
            cookie = dict(scope["headers"]).get(b"cookie", b"").decode("latin-1") or None
            request = TokenRequest(agent_id=agent_id or "", at=time.time())
            self._state.token_requests.append(request)
            self._state.log.add("token_request", agent_id, cookie=cookie)
            try:
                await self._to_rest(target, agent_id, scope, receive, self._recording_status(send, request))
            finally:
                request.over_at = time.time()
        else:
            await self._to_rest(target, agent_id, scope, receive, send)

    async def _to_rest(self, target: Target, agent_id: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        delay = self._faults.get(Delay, agent_id)
        if delay is not None and delay.rest_seconds > 0 and delay.rest_target in (target, "all"):
            self._state.log.add("delayed", agent_id, target=target)
            await asyncio.sleep(delay.rest_seconds)
        fault = self._faults.get(Rest, agent_id)
        if fault is None or fault.target not in (target, "all"):
            await self._routes(scope, receive, send)
            return
        self._faults.strike(Rest, agent_id)
        await self._fail_rest(fault, scope, receive, send)

    def _target(self, scope: Scope) -> tuple[Target, str | None]:
        path: str = scope["path"]
        if path.startswith(self._config.rest_prefix):
            for target, pattern in _TARGETS:
                if match := pattern.fullmatch(path, len(self._config.rest_prefix)):
                    return target, match.groupdict().get("agent") or self._bearer(scope)
        return "other", None

    def _bearer(self, scope: Scope) -> str | None:
        authorization = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        try:
            return self._tokens.verify(authorization.removeprefix("Bearer ")).id
        except InvalidTokenError:
            return None

    def _recording_status(self, send: Send, request: TokenRequest) -> Send:
        async def recording(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                self._state.log.add("token_answer", request.agent_id, status=request.status)
            await send(message)

        return recording

    async def _fail_rest(self, fault: Rest, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.mode == "reset":
            await self._reset_and_wait(scope, receive)
        elif fault.mode == "hang":
            await _until_gone(receive, "http.disconnect")
        elif fault.mode == "empty":
            await _answer(send, 201, b"{}", b"application/json")
        elif fault.mode in ("html", "ok_html"):
            await _answer(send, 200 if fault.mode == "ok_html" else fault.status, _PROXY_PAGE, b"text/html")
        else:
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            path = scope["path"].removeprefix(self._config.rest_prefix)
            # 404 as from a platform that has no such route.
            reason = f"Cannot {scope['method']} {path}" if fault.status == 404 else _REASONS.get(fault.status, "Error")
            await error_answer(path, fault.status, reason, headers=headers)(dict(scope), receive, send)


_REASONS = {
    429: "ThrottlerException: Too Many Requests",
    500: "Internal server error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


async def _answer(send: Send, status: int, body: bytes, content_type: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _agent_of_body(receive: Receive) -> tuple[str | None, Receive]:
    """v3's token endpoint has the agent's id in its body: read it, and let it be read again."""
    messages: list[MutableMapping[str, Any]] = []
    while not messages or (messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False)):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)
    waiting = iter(messages)

    async def replay() -> MutableMapping[str, Any]:
        return next(waiting, None) or await receive()

    try:
        agent_id = json.loads(body)["id"]
    except (ValueError, KeyError, TypeError):
        agent_id = None
    return agent_id if isinstance(agent_id, str) else None, replay


async def _until_gone(receive: Receive, farewell: str) -> None:
    while (await receive())["type"] != farewell:
        pass
