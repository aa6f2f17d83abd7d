"""R22: the admin API, fuzzed against its own description."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.support.admin_api import ADMIN_TOKEN, Admin, Operation, admin, fitting, operations
from tests.support.reliability import Case
from tests.support.stack import SECRET

NO_TOKENS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Bearer {ADMIN_TOKEN}x"},
    {"Authorization": f"Basic {ADMIN_TOKEN}"},
    {"Authorization": f"Bearer {SECRET}"},
    {"Authorization": "Bearer \udce9\udcff"},
    {"Cookie": f"token={ADMIN_TOKEN}", "X-Forwarded-For": "127.0.0.1"},
]
RIGHT = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def test_r22_no_endpoint_answers_without_its_token(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R22 tokens")
    async with admin(tmp_path, admin_token=SecretStr(ADMIN_TOKEN), metrics_token=SecretStr("scrape")) as api:
        asked = [one for one in operations(api.described) if one.path.startswith("/api/") or one.path == "/metrics"]
        assert len(asked) >= 5
        for operation in asked:
            for headers in NO_TOKENS:
                status, body = await api.ask(operation.method, api.plain(operation), headers=headers, data=b"{}")
                assert status == 401, operation
                assert api.agent not in body
                counted.faults += 1
        for operation in asked:
            if operation.method == "GET" and operation.path != "/metrics":
                assert (await api.ask("GET", api.plain(operation), headers=RIGHT))[0] == 200, operation
        assert not api.fleet.service.control.status(api.agent).paused


async def test_r22_other_sites_and_other_names_are_refused(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R22 origins")
    async with admin(tmp_path) as api:
        for operation in operations(api.described):
            refused = [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:8640"}, {"Host": ""}]
            if operation.method != "GET":
                refused += [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
            for headers in refused:
                status, _ = await api.ask(operation.method, api.plain(operation), headers=headers, data=b"{}")
                assert status == 403, (operation, headers)
                counted.faults += 1
        async with api.session.options(f"{api.fleet.service.admin_url}/api/v1/agents") as preflight:
            assert not [name for name in preflight.headers if name.lower().startswith("access-control-")]


async def test_r22_bodies_that_are_too_large(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R22 bodies")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536

    async with admin(tmp_path, admin_token=SecretStr(ADMIN_TOKEN)) as api:
        for operation in operations(api.described):
            if operation.method == "GET":
                continue
            for body in (io.BytesIO(b'{"a":"' + b"x" * 2_000_000 + b'"}'), endless()):
                status, _ = await api.ask(operation.method, api.plain(operation), headers=RIGHT, data=body)
                assert status == 413, operation
                counted.faults += 1
            deep = b"[" * 100_000 + b"]" * 100_000
            headers = RIGHT | {"Content-Type": "application/json"}
            for odd in (deep, b"\xff\xfe", b'{"a":', b"null", b'{"a":NaN}', b'{"id":"\\ud800"}'):
                await api.ask(operation.method, api.plain(operation), headers=headers, data=odd)
                counted.faults += 1


TRICKS = [
    "GET //api/v1/agents HTTP/1.1",
    "GET /./api/v1/agents HTTP/1.1",
    "GET /x/../api/v1/agents HTTP/1.1",
    "GET /livez/../api/v1/agents HTTP/1.1",
    "GET /static/../api/v1/agents HTTP/1.1",
    "GET /api%2fv1%2fagents HTTP/1.1",
    "GET /%61pi/v1/agents HTTP/1.1",
    "GET /API/v1/agents HTTP/1.1",
    "GET /api/v1/agents/ HTTP/1.1",
    "GET /api/v1/agents%00 HTTP/1.1",
    "GET /api/v1/agents;x=1 HTTP/1.1",
    "GET /api/v1/agents#x HTTP/1.1",
    "GET /api\\v1\\agents HTTP/1.1",
    f"GET /api/v1/agents?token={ADMIN_TOKEN} HTTP/1.1",
    "GET http://127.0.0.1/api/v1/agents HTTP/1.1",
    "GET api/v1/agents HTTP/1.1",
    "GET * HTTP/1.1",
    "GET /static/../../../../../../etc/passwd HTTP/1.1",
    "GET /static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
    "GET /static/..%2f..%2fapi.py HTTP/1.1",
    "GET /static//etc/passwd HTTP/1.1",
    "GET /" + "x" * 60_000 + " HTTP/1.1",
    "GET /" + "../" * 5_000 + "etc/passwd HTTP/1.1",
    "TRACE /api/v1/agents HTTP/1.1",
    "CONNECT 127.0.0.1:1 HTTP/1.1",
    "BREW / HTTP/1.1",
    "GET / HTTP/9.9",
    "GET /",
    "\x16\x03\x01\x02\x00",
    "GET /api/v1/agents HTTP/1.1\r\nContent-Length: -1",
    "GET /api/v1/agents HTTP/1.1\r\nContent-Length: many",
    "POST /api/v1/agents HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
    "POST /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense",
    "GET /api/v1/agents HTTP/1.1\r\nAuthorization: Bearer\x00",
    "GET /livez HTTP/1.1\r\nX: " + "x" * 200_000,
    "GET /api/v1/events HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
    "\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
]


@pytest.mark.parametrize("token", [None, ADMIN_TOKEN])
async def test_r22_paths_and_requests_that_are_tricks(
    tmp_path: Path, case: Callable[[str], Case], token: str | None
) -> None:
    counted = case(f"R22 tricks {'with' if token else 'without'} a token")
    given = {"admin_token": SecretStr(token)} if token else {}
    async with admin(tmp_path, **given) as api:
        address = urlsplit(api.fleet.service.admin_url)
        for trick in TRICKS:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            # What stands after the blank line ends a body in chunks, and is nothing to all others.
            writer.write(f"{trick}\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n0\r\n\r\n".encode("latin-1"))
            async with asyncio.timeout(30):
                try:
                    answer = await reader.read()
                except ConnectionResetError:
                    # It has not read all of a request that is too long.
                    answer = b""
            writer.close()
            counted.faults += 1
            status = int(answer.split()[1]) if answer.startswith(b"HTTP/") else 400
            api.look(status, trick[:100], answer)
            assert b"root:" not in answer
            if token:
                assert api.agent.encode() not in answer.partition(b"\r\n\r\n")[2], trick[:100]
        assert (await api.ask("GET", "/livez"))[0] == 200


def fuzz(data: st.DataObject, times: int) -> None:
    """Ask every endpoint a few times with drawn parameters and bodies, and the right token."""

    async def scenario(folder: Path) -> None:
        async with admin(folder, admin_token=SecretStr(ADMIN_TOKEN)) as api:
            for operation in sorted(operations(api.described), key=lambda one: (one.path, one.method)):
                for _ in range(times):
                    await one_request(api, operation)

    async def one_request(api: Admin, operation: Operation) -> None:
        drawn: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}, "cookie": {}}
        for parameter in operation.parameters:
            name, where = parameter["name"], parameter["in"]
            values = fitting(parameter.get("schema", {}), api.described)
            drawn[where][name] = data.draw(values | st.just(api.known(name)) if where == "path" else values)
        given: dict[str, Any] = {"headers": RIGHT}
        if operation.body is not None:
            body = data.draw(fitting(operation.body, api.described))
            given = {"headers": RIGHT | {"Content-Type": "application/json"}, "data": json.dumps(body).encode()}
        await api.ask(operation.method, api.target(operation, drawn["path"], drawn["query"]), **given)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_r22_every_endpoint_fuzzed_against_its_description(data: st.DataObject) -> None:
    fuzz(data, times=4)


@pytest.mark.soak
@pytest.mark.timeout(900)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_r22_every_endpoint_fuzzed_for_long(data: st.DataObject) -> None:
    fuzz(data, times=10)
