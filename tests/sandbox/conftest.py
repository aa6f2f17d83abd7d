"""What the sandbox's tests share: raw sockets that see every frame, and ready-made sandboxes."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from supervisor.sandbox import Sandbox

AGENT = "a" * 20 + "0001"
OTHER = "a" * 20 + "0002"
SECRET = "s3cret"
PERSON = "c" * 24


class RawSocket:
    """An Engine.IO WebSocket on which a test reads and writes single frames."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, namespace: str) -> None:
        self.ws = ws
        self.namespace = namespace
        self._ack_id = 0

    def prefix(self, kind: str) -> str:
        """How packets of a kind begin in this namespace; the root is not named."""
        return kind if self.namespace == "/" else f"{kind}{self.namespace},"

    async def frame(self, timeout: float = 5.0) -> str:
        """The next text frame; Engine.IO pings are answered and left out."""
        while True:
            message = await self.ws.receive(timeout=timeout)
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"{message.type!r} {message.data!r}")
            if message.data == "2":
                await self.send("3")
                continue
            return str(message.data)

    async def send(self, frame: str) -> None:
        """Send one frame as it is."""
        await self.ws.send_str(frame)

    async def emit(self, event: str, *args: Any) -> int:
        """Send an event that wants an ack, and return the ack's id."""
        self._ack_id += 1
        body = json.dumps([event, *args])
        await self.send(f"{self.prefix('42')}{self._ack_id}{body}")
        return self._ack_id

    async def event(self, name: str, timeout: float = 5.0) -> Any:
        """The payload of the next event of that name; others are skipped."""
        start = self.prefix("42")
        while True:
            frame = await self.frame(timeout)
            if frame.startswith(f"{start}["):
                event, payload = json.loads(frame[len(start) :])
                if event == name:
                    return payload

    async def ack(self, ack_id: int, timeout: float = 5.0) -> Any:
        """The payload of that ack; everything before it is skipped."""
        start = f"{self.prefix('43')}{ack_id}["
        while True:
            frame = await self.frame(timeout)
            if frame.startswith(start):
                return json.loads(frame[len(start) - 1 :])[0]

    async def call(self, event: str, *args: Any) -> Any:
        """Send an event and return its ack."""
        return await self.ack(await self.emit(event, *args))

    async def barrier(self) -> list[str]:
        """Everything that was sent before now: an undeclared namespace answers on any open socket, in order."""
        await self.send("40/barrier,")
        frames = []
        while not (frame := await self.frame()).startswith("44/barrier,"):
            frames.append(frame)
        return frames

    async def events(self, name: str) -> list[Any]:
        """The payloads of all events of that name that were sent before now."""
        start = self.prefix("42")
        sent = [json.loads(frame[len(start) :]) for frame in await self.barrier() if frame.startswith(f"{start}[")]
        return [payload for event, payload in sent if event == name]

    async def closed(self, timeout: float = 5.0) -> int | None:
        """Read until the WebSocket is closed and return the code."""
        while not self.ws.closed:
            message = await self.ws.receive(timeout=timeout)
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                break
        return self.ws.close_code


class Client:
    """Opens raw sockets and asks REST questions of one sandbox."""

    def __init__(self, sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.http = http
        # A socket that nobody holds is closed by the garbage collector.
        self._held: list[RawSocket] = []

    async def close(self) -> None:
        """Stop the sandbox, which drops every socket, and let go of them."""
        await self.sandbox.stop()
        for socket in self._held:
            await socket.ws.close()

    async def get(self, url: str, **options: Any) -> aiohttp.ClientResponse:
        """A GET whose answer is read whole, so that its connection is free again."""
        return await self._request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> aiohttp.ClientResponse:
        """A POST whose answer is read whole."""
        return await self._request("POST", url, **options)

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        """Status and JSON of a request to the platform's REST side."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        options: dict[str, Any] = {} if body is None else {"json": body}
        answer = await self._request(method, f"{self.sandbox.api_url}{path}", headers=headers, **options)
        return answer.status, await answer.json()

    async def _request(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse:
        async with self.http.request(method, url, **options) as answer:
            await answer.read()
        return answer

    @property
    def socket_url(self) -> str:
        """Where agents find Engine.IO's WebSocket."""
        return self._url(self.sandbox.config.agents_path)

    def _url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.sandbox.port}{path}/?EIO=4&transport=websocket"

    async def token(self, agent_id: str = AGENT) -> str:
        """A token from the token endpoint."""
        answer = await self.post(f"{self.sandbox.api_url}/agents/{agent_id}/connect", json={"secret": SECRET})
        return str((await answer.json())["accessToken"])

    async def socket(
        self, namespace: str | None = None, *, path: str | None = None, query: str = "", headers: Any = None
    ) -> RawSocket:
        """A WebSocket on which nothing was sent or read yet."""
        url = f"{self._url(path or self.sandbox.config.agents_path)}{query}"
        ws = await self.http.ws_connect(url, headers=headers, autoclose=True)
        self._held.append(RawSocket(ws, namespace or self.sandbox.config.declared_namespaces[0]))
        return self._held[-1]

    async def connect(
        self, token: str | None = None, *, namespace: str | None = None, path: str | None = None
    ) -> RawSocket:
        """A socket whose CONNECT was acked."""
        socket = await self.socket(namespace, path=path)
        assert (await socket.frame()).startswith("0{")
        await socket.send(socket.prefix("40") + json.dumps({"token": token or await self.token()}))
        assert (await socket.frame()).startswith(socket.prefix("40"))
        return socket

    async def person(self, user_id: str = PERSON) -> RawSocket:
        """A registered socket of a user."""
        socket = await self.connect(self.sandbox.tokens.for_user(user_id), path=self.sandbox.config.people_path)
        while (await socket.event("presence:update")).get("userId") != user_id:
            pass
        return socket

    async def talk(self, person: RawSocket, agent_id: str = AGENT) -> str:
        """v2 and v3: let a person connect to an agent; the conversation's id."""
        return str((await person.call("agent:connect", {"agentId": agent_id}))["conversationId"])

    async def agent(self, agent_id: str = AGENT) -> RawSocket:
        """A registered socket of an agent, at the gateway that is for agents where there is one."""
        config = self.sandbox.config
        namespace = "/ws/agent" if config.profile == "v3" and config.stage == "ii" else None
        socket = await self.connect(await self.token(agent_id), namespace=namespace)
        while (await socket.event("presence:update")).get("agentId") != agent_id:
            pass
        return socket


Start = Callable[..., Awaitable[Client]]


@pytest.fixture(autouse=True)
def _no_errors_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A fault that was asked for is no error: nothing may be logged as one."""
    yield
    errors = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
    assert [record.getMessage() for record in errors if record.levelno >= logging.ERROR] == []


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start sandboxes with one agent (AGENT, SECRET) each; the arguments are the sandbox's settings."""
    async with AsyncExitStack() as stack:

        async def started(**settings: Any) -> Client:
            sandbox = await stack.enter_async_context(Sandbox(**settings))
            sandbox.add_agent(AGENT, SECRET)
            http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            client = Client(sandbox, http)
            stack.push_async_callback(client.close)
            return client

        yield started


@pytest.fixture(params=["v1", "v2"])
async def client(request: pytest.FixtureRequest, start: Start) -> Client:
    """A sandbox of either generation."""
    return await start(profile=request.param)


@pytest.fixture(params=["ii", "iii"])
async def gateway(request: pytest.FixtureRequest, start: Start) -> Client:
    """A sandbox that has an agents' gateway, in either stage."""
    return await start(profile="v3", stage=request.param)


@pytest.fixture
async def v3(start: Start) -> Client:
    """A sandbox of the third generation, stage iii."""
    return await start(profile="v3")


@pytest.fixture
async def v1(start: Start) -> Client:
    """A sandbox of the first generation."""
    return await start(profile="v1")


@pytest.fixture
async def v2(start: Start) -> Client:
    """A sandbox of the second generation."""
    return await start(profile="v2")
