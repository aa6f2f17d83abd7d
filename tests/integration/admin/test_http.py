"""The admin server over real sockets: health, figures, the API, and who may ask."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import io
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import async_playwright, expect
from pydantic import SecretStr

from supervisor.admin import AdminServer, build_app
from supervisor.admin.api import MOST_COUNTED
from supervisor.admin.scrape import Scrapes
from supervisor.core.activity import Minute
from supervisor.core.errors import (
    AgentNotFoundError,
    ConfigurationError,
    MessageNotFoundError,
    RegistryError,
    ReplicaError,
)
from supervisor.core.records import AgentEvent, AgentRecord, Removal, UsageRecord
from supervisor.core.replicas import ReplicaStatus
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, CheckResult, InboxCounts, MessageDetails, MessageSummary, Overview
from supervisor.management.agents import Changes
from supervisor.management.handlers import KnownHandler
from supervisor.management.messages import MessageQuery, Outcome
from supervisor.management.selection import Selector
from supervisor.settings import Settings
from supervisor.telemetry.events import Events, Wanted
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.telling import Told, tell_alone

A1, A2 = "a" * 24, "b" * 24
CHROMIUM = Path("/usr/bin/chromium")


class SmallInsight:
    """As little as can be known."""

    async def activity(self, agent_id: str) -> list[Minute]:
        return []

    async def conversations(self, agent_id: str) -> list[str]:
        return []

    async def usage(self, agent_id: str | None, days: int) -> list[UsageRecord]:
        return []

    async def removals(self) -> list[Removal]:
        return []

    async def handlers(self) -> list[KnownHandler]:
        return [KnownHandler("echo", "Says it again.", ("prefix",))]

    async def examine(self, agent_id: str | None) -> list[CheckResult]:
        return []


class SmallService:
    """The least supervisor that the admin server can serve: agents in a dict, and what was done to them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.events = Events(run="7")
        self.insight = SmallInsight()
        self.trouble: tuple[str, ...] = ()
        self.ended: tuple[str, ...] = ()
        self.fails: Exception | None = None
        self.done: list[str] = []
        self.agents = {
            A1: AgentStatus(
                id=A1,
                name="Ada",
                handler="echo",
                state=AgentState.ONLINE,
                since=time.time() - 90,
                conversation_id="c" * 24,
                conversations=2,
                auth_expires_at=time.time() + 7200,
                inbox=InboxCounts(1, 2, 3),
                settings={"api_key": "s3cr3t", "model": "m"},
                labels={"team": "x"},
            ),
            A2: AgentStatus(
                id=A2, name="<b>Bob</b>", handler="nope", state=AgentState.FAULTED, reason="no such handler"
            ),
        }

    @property
    def closing(self) -> asyncio.Event:
        return self.events.closing

    def happened(
        self, wanted: Wanted, selected: Selector, *, last: int, follow: bool, after: str | None
    ) -> AsyncGenerator[Told]:
        return tell_alone(self.events, wanted, last=last, follow=follow, after=after)

    async def replicas(self) -> list[ReplicaStatus]:
        return [ReplicaStatus(1, "living", agents=len(self.agents), me=True)]

    async def drain(self, replica_id: int) -> None:
        raise ReplicaError(f"There is no replica {replica_id}")

    async def overview(self) -> Overview:
        states: dict[str, int] = {}
        for agent in self.agents.values():
            states[agent.state] = states.get(agent.state, 0) + 1
        return Overview("1.2.3", os.getpid(), "uuid-1", time.time() - 60, states, InboxCounts(1, 2, 3), self.trouble)

    def problems(self) -> tuple[str, ...]:
        return self.trouble

    def dead(self) -> tuple[str, ...]:
        return self.ended

    async def each_status(self) -> AsyncIterator[AgentStatus]:
        for status in self.agents.values():
            yield status

    async def status(self, agent_id: str) -> AgentStatus:
        if self.fails:
            raise self.fails
        if agent_id not in self.agents:
            raise AgentNotFoundError(agent_id)
        return self.agents[agent_id]

    def _set(self, agent_id: str, done: str, **changes: Any) -> None:
        self.done.append(f"{done} {agent_id}")
        self.agents[agent_id] = dataclasses.replace(self.agents[agent_id], **changes)

    async def add(self, record: AgentRecord) -> None:
        self.agents[record.id] = AgentStatus(record.id, record.name, record.handler, AgentState.AUTHENTICATING)

    async def change(self, agent_id: str, changes: Changes) -> None:
        self._set(agent_id, "change", **changes.fields)

    async def remove(self, agent_id: str) -> None:
        del self.agents[agent_id]

    async def history(self, agent_id: str | None, limit: int, before_id: int) -> list[AgentEvent]:
        return []

    async def rollback(self, agent_id: str, number: int) -> None:
        self._set(agent_id, "rollback")

    async def restore(self, agent_id: str) -> None:
        raise AgentNotFoundError(agent_id)

    async def act(self, action: str, agent_id: str) -> None:
        state = {"pause": AgentState.PAUSED, "resume": AgentState.AUTHENTICATING}.get(action)
        self._set(agent_id, action, **({} if state is None else {"paused": action == "pause", "state": state}))

    async def act_on(self, action: str, agent_ids: Sequence[str]) -> dict[str, str]:
        self.done += [f"{action} {one}" for one in agent_ids]
        return {one: "No such agent" for one in agent_ids if one not in self.agents}

    async def settle_all(self, action: str, numbers: Sequence[int]) -> list[Outcome]:
        return [Outcome(one, refused=MessageNotFoundError(one)) for one in numbers]

    async def messages(self, query: MessageQuery, limit: int) -> list[MessageSummary]:
        return []

    async def message(self, number: int) -> MessageDetails:
        raise MessageNotFoundError(number)

    async def settle(self, action: str, number: int) -> None:
        raise MessageNotFoundError(number)


@dataclasses.dataclass
class Served:
    service: SmallService
    server: AdminServer
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.server.url + path, **kwargs) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else await answer.text()


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    running: list[Served] = []

    async def start(**settings: Any) -> Served:
        service = SmallService(Settings(admin_port=0, **settings))
        server = AdminServer(build_app(service), service.settings.admin_host, 0)
        await server.start()
        running.append(Served(service, server, aiohttp.ClientSession()))
        return running[-1]

    yield start
    for served in running:
        await served.session.close()
        await served.server.stop()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_health_says_what_is_wrong(serve: Serve) -> None:
    served = await serve()
    assert await served.ask("GET", "/livez") == (200, {"alive": True})
    assert await served.ask("GET", "/readyz") == (200, {"ready": True, "problems": []})
    served.service.trouble = ("the journal cannot write: disk full",)
    assert await served.ask("GET", "/readyz") == (503, {"ready": False, "problems": list(served.service.trouble)})
    assert (await served.ask("GET", "/livez"))[0] == 200
    served.service.ended = ("the journal's writer has ended",)
    assert await served.ask("GET", "/livez") == (503, {"alive": False, "problems": list(served.service.ended)})


async def test_agents_have_the_fields_of_the_contract_and_no_secrets(serve: Serve) -> None:
    served = await serve()
    status, agents = await served.ask("GET", "/api/v1/agents")
    assert status == 200
    assert [*agents[0]] == [
        *("id", "name", "handler", "state", "since", "reason", "health", "conversation_id", "conversations"),
        *("auth_expires_at", "inbox", "settings", "labels", "paused"),
        *("undelivered", "undelivered_reason", "notes", "handling", "trouble", "oldest_at", "answered_lately"),
        *("replica", "stale_since", "secret"),
    ]
    assert agents[0]["inbox"] == {"available": 1, "running": 2, "dead": 3}
    assert agents[0]["settings"] == {"api_key": "[redacted]", "model": "m"}
    assert await served.ask("GET", f"/api/v1/agents/{A1}") == (200, agents[0])
    status, overview = await served.ask("GET", "/api/v1/status")
    assert (status, overview["registry_uuid"], overview["agents"]) == (200, "uuid-1", {"online": 1, "faulted": 1})


async def test_actions_reach_the_service_and_answer_with_the_agent(serve: Serve) -> None:
    served = await serve()
    for action, state in (("pause", "paused"), ("resume", "authenticating"), ("reload", "authenticating")):
        status, agent = await served.ask("POST", f"/api/v1/agents/{A1}/{action}")
        assert (status, agent["state"]) == (200, state)
    assert served.service.done == [f"pause {A1}", f"resume {A1}", f"reload {A1}"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/agents/unknown", 404),
        ("POST", "/api/v1/agents/unknown/pause", 404),
        ("POST", f"/api/v1/agents/{A1}/explode", 422),
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/agents/%00%ff%0a", 404),
        ("GET", "/static/../api.py", 404),
        ("GET", "/static/..%2fapi.py", 404),
        ("DELETE", "/api/v1/status", 405),
        ("GET", f"/api/v1/agents/{A1}/pause", 405),
        ("POST", f"/api/v1/agents/{'x' * 5000}/pause", 404),
    ],
)
async def test_bad_input_is_answered_in_json_and_never_with_500(
    serve: Serve, method: str, path: str, expected: int
) -> None:
    served = await serve()
    status, answer = await served.ask(method, path)
    assert (status, list(answer)) == (expected, ["error"])
    assert served.service.done == []


async def test_trouble_of_the_service_has_its_own_status(serve: Serve) -> None:
    served = await serve()
    for error, expected in ((RegistryError("disk full"), 503), (ConfigurationError("no host"), 400)):
        served.service.fails = error
        assert await served.ask("GET", f"/api/v1/agents/{A1}") == (expected, {"error": str(error)})
    served.service.fails = KeyError("a defect with s3cr3t inside")
    status, answer = await served.ask("GET", f"/api/v1/agents/{A1}")
    assert (status, answer) == (500, {"error": "internal error; see the log"})
    assert (await served.ask("GET", "/livez"))[0] == 200


async def test_metrics_speak_both_formats(serve: Serve) -> None:
    served = await serve()
    served.service.metrics.received("echo")
    for accept, kind in (
        ("text/plain", "text/plain"),
        ("application/openmetrics-text", "application/openmetrics-text"),
    ):
        async with served.session.get(served.server.url + "/metrics", headers={"Accept": accept}) as answer:
            assert answer.content_type == kind
            assert 'supervisor_messages_received_total{handler="echo"} 1.0' in await answer.text()


def big_metrics(agents: int) -> Metrics:
    metrics = Metrics(agent_limit=agents)
    for number in range(agents):
        metrics.agent_state(f"{number:024x}", None, AgentState.ONLINE)
    return metrics


@pytest.mark.parametrize("encoding", ["identity", "gzip;q=0", "br", "gzip", "deflate, GZIP;q=0.5", "gzip, *;q=0"])
async def test_metrics_are_compressed_for_those_who_ask(serve: Serve, encoding: str) -> None:
    served = await serve()
    served.service.metrics = metrics = big_metrics(2000)
    address = served.server.url + "/metrics"
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(address, headers={"Accept-Encoding": encoding}) as answer,
    ):
        body = await answer.read()
        compressed = answer.headers.get("Content-Encoding") == "gzip"
        assert "Accept-Encoding" in answer.headers["Vary"]
    assert compressed == ("gzip" in encoding.lower() and not encoding.endswith("gzip;q=0"))
    text = gzip.decompress(body) if compressed else body
    assert len(body) < len(text) / 8 or not compressed

    def steady(text: bytes) -> bytes:
        return b"".join(line for line in text.splitlines() if not line.startswith(b"process_"))

    assert steady(text) == steady(metrics.render("")[0])


async def test_scrapes_at_once_share_one_answer() -> None:
    metrics = big_metrics(3000)
    begun: list[str] = []

    def ratios() -> tuple[float | None, dict[str, float]]:
        begun.append("")
        return None, {}

    metrics.bind_budgets(ratios)
    scrapes = Scrapes(lambda: metrics)
    forms = [("text/plain", "gzip"), ("text/plain", ""), ("application/openmetrics-text", "gzip")]
    answers = await asyncio.gather(*(scrapes.answer(*form) for form in forms * 5))
    assert len(begun) == 2, "one for each format; what is compressed is the same text"
    assert len({body for body, _ in answers}) == 3
    await scrapes.answer(*forms[0])
    assert len(begun) == 3, "who comes later gets new figures"
    # One that goes away leaves the others theirs.
    first, second = (asyncio.create_task(scrapes.answer(*forms[0])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0]
    assert len(begun) == 4


async def test_a_scrape_that_fails_fails_alone(serve: Serve) -> None:
    served = await serve()
    served.service.metrics.bind_memory(lambda: float("no number"), 1)
    for _ in range(2):
        async with served.session.get(served.server.url + "/metrics") as answer:
            assert answer.status == 500
    served.service.metrics.bind_memory(lambda: 0.0, 1)
    assert (await served.ask("GET", "/metrics"))[0] == 200


async def test_a_big_scrape_lets_the_loop_run(serve: Serve) -> None:
    served = await serve()
    served.service.metrics = metrics = big_metrics(5000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    pieces, _ = metrics.slices("")
    before = turns
    status, text = await served.ask("GET", "/metrics")
    counting.cancel()
    assert status == 200
    assert text.count("supervisor_agent_up{") == 5000
    assert turns - before > len(list(pieces)) - 2


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/api/v1/agents", f"/api/v1/agents/{A1}", "/api/v1/nowhere"])
async def test_the_admin_token_guards_the_api_and_the_console(serve: Serve, path: str) -> None:
    served = await serve(admin_token=SecretStr("s3cr3t"))
    wrong: list[dict[str, str]] = [
        {},
        bearer("wrong"),
        bearer(""),
        bearer("s3cr3t2"),
        {"Authorization": "Basic s3cr3t"},
        {"Authorization": "s3cr3t"},
        bearer("Grüße"),
    ]
    for headers in wrong:
        status, answer = await served.ask("GET", path, headers=headers)
        assert status == 401
        assert "Ada" not in str(answer)
    for right in (bearer("s3cr3t"), {"Authorization": "bearer s3cr3t"}):
        assert (await served.ask("GET", path, headers=right))[0] in (200, 404)
    assert (await served.ask("POST", f"/api/v1/agents/{A1}/pause"))[0] == 401
    assert served.service.done == []
    for open_path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert (await served.ask("GET", open_path))[0] == 200


async def test_metrics_have_a_token_of_their_own(serve: Serve) -> None:
    served = await serve(admin_token=SecretStr("admin"), metrics_token=SecretStr("scrape"))
    assert (await served.ask("GET", "/metrics"))[0] == 401
    assert (await served.ask("GET", "/metrics", headers=bearer("admin")))[0] == 401
    assert (await served.ask("GET", "/metrics", headers=bearer("scrape")))[0] == 200
    assert (await served.ask("GET", "/api/v1/agents", headers=bearer("scrape")))[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8640", "localhost.evil.example", "[::2]", "", "[", "1.2.3.4"]
)
async def test_without_a_token_another_host_name_is_refused(serve: Serve, host: str) -> None:
    served = await serve()
    for path in ("/", "/api/v1/agents", "/metrics", "/livez"):
        status, answer = await served.ask("GET", path, headers={"Host": host})
        assert (status, list(answer)) == (403, ["error"])
    for own in ("localhost", "LOCALHOST:1", "127.0.0.1:8640", "[::1]:8640"):
        assert (await served.ask("GET", "/api/v1/agents", headers={"Host": own}))[0] == 200


async def test_with_a_token_any_host_name_will_do(serve: Serve) -> None:
    served = await serve(admin_token=SecretStr("s3cr3t"))
    headers = bearer("s3cr3t") | {"Host": "supervisor.example"}
    assert (await served.ask("GET", "/api/v1/agents", headers=headers))[0] == 200


async def test_other_sites_pages_cannot_act(serve: Serve) -> None:
    served = await serve()
    path = f"/api/v1/agents/{A1}/pause"
    foreign = [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in foreign:
        assert (await served.ask("POST", path, headers=headers))[0] == 403
    assert served.service.done == []
    assert (await served.ask("POST", path, headers={"Origin": served.server.url}))[0] == 200
    assert (await served.ask("POST", path, headers={"Sec-Fetch-Site": "same-origin"}))[0] == 200


async def test_large_bodies_are_refused_whether_announced_or_not(serve: Serve) -> None:
    served = await serve()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536

    for body in (io.BytesIO(b"x" * 2_000_000), endless()):
        status, answer = await served.ask("POST", f"/api/v1/agents/{A1}/pause", data=body)
        assert (status, list(answer)) == (413, ["error"])
    assert served.service.done == []
    assert (await served.ask("POST", f"/api/v1/agents/{A1}/pause", data=b"x" * 1000))[0] == 200


async def test_browsers_are_told_to_be_strict(serve: Serve) -> None:
    served = await serve(admin_token=SecretStr("s3cr3t"))
    for path in ("/", "/docs", "/api/v1/agents", "/nowhere", "/static/console.js"):
        async with served.session.get(served.server.url + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "server" not in {name.lower() for name in answer.headers}


async def test_the_description_lists_every_endpoint(serve: Serve) -> None:
    served = await serve()
    _, described = await served.ask("GET", "/openapi.json")
    assert set(described["paths"]) == {
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/agents",
        "/api/v1/agents/{agent_id}",
        "/api/v1/agents/{agent_id}/{action}",
        "/api/v1/agents/{agent_id}/history",
        "/api/v1/agents/{agent_id}/restore",
        "/api/v1/agents/{agent_id}/rollback",
        "/api/v1/agents/{agent_id}/activity",
        "/api/v1/agents/{agent_id}/conversations",
        "/api/v1/board",
        "/api/v1/bulk/agents",
        "/api/v1/bulk/messages",
        "/api/v1/doctor",
        "/api/v1/events",
        "/api/v1/handlers",
        "/api/v1/history",
        "/api/v1/removals",
        "/api/v1/replicas",
        "/api/v1/replicas/{replica_id}/drain",
        "/api/v1/settings-schema",
        "/api/v1/usage",
        "/session",
        "/api/v1/messages",
        "/api/v1/messages/{number}",
        "/api/v1/messages/{number}/replay",
        "/api/v1/messages/{number}/discard",
        "/api/v1/messages/{number}/cancel",
    }
    _, page = await served.ask("GET", "/docs")
    assert "http://" not in page
    assert "https://" not in page


async def test_a_port_in_use_is_one_line_that_says_what_to_set(serve: Serve) -> None:
    served = await serve()
    taken = int(served.server.url.rpartition(":")[2])
    second = AdminServer(build_app(served.service), "127.0.0.1", taken)
    with pytest.raises(ConfigurationError, match=rf"Port {taken} on 127\.0\.0\.1 is in use.*SUPERVISOR_ADMIN_PORT"):
        await second.start()
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(ConfigurationError, match="SUPERVISOR_ADMIN_HOST"):
            await AdminServer(build_app(served.service), host, 0).start()


async def test_start_and_stop_may_be_repeated_and_give_the_port_back() -> None:
    service = SmallService(Settings())
    server = AdminServer(build_app(service), "127.0.0.1", 0)
    await server.stop()
    await server.start()
    port = int(server.url.rpartition(":")[2])
    await server.start()
    assert server.url.endswith(f":{port}")
    async with aiohttp.ClientSession() as session, session.get(server.url + "/livez") as answer:
        assert answer.status == 200
        async with asyncio.timeout(20):
            await server.stop()
    await server.stop()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


async def test_signals_stay_the_supervisors(serve: Serve) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    await serve()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_the_servers_loggers_stay_everybodys(serve: Serve) -> None:
    await serve()
    assert logging.getLogger("uvicorn.access").propagate, "it has no access log, and cuts off nobody's warnings"


def test_addresses_are_written_for_browsers() -> None:
    app = build_app(SmallService(Settings()))
    assert AdminServer(app, "0.0.0.0", 80).url == "http://127.0.0.1:80"
    assert AdminServer(app, "::1", 80).url == "http://[::1]:80"


@pytest.fixture
def chromium() -> str:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: apt-get install chromium")
        pytest.skip("apt-get install chromium")
    return str(CHROMIUM)


async def test_what_needs_somebody_is_counted_in_the_icon(serve: Serve) -> None:
    served = await serve()
    for count, shown in ((1, ">1<"), (8, ">8<"), (MOST_COUNTED, ">9+<")):
        status, icon = await served.ask("GET", f"/favicon-{count}.svg")
        assert (status, shown in icon, icon.count("<svg")) == (200, True, 1)
    for name in ("favicon-0.svg", "favicon-10.svg"):
        assert (await served.ask("GET", f"/{name}"))[0] == 404


@pytest.mark.browser
async def test_the_console_shows_the_fleet_and_follows_it(serve: Serve, chromium: str) -> None:
    served = await serve(admin_token=SecretStr("s3cr3t"))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 390, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(served.server.url)
        await page.fill("#token", "s3cr3t")
        await page.click("#login button")
        await page.wait_for_selector("#agents tr")
        shown = await page.inner_text("#agents")
        assert "Ada" in shown
        # What others named is text, not markup.
        assert "<b>Bob</b>" in shown
        assert "no such handler" in shown
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        served.service.agents[A2] = dataclasses.replace(served.service.agents[A2], state=AgentState.ONLINE, reason="")
        await expect(page.locator("#agents td.online")).to_have_count(2)
        await page.fill("#search", "ada")
        await expect(page.locator("#agents tr")).to_have_count(1)
        assert await page.title() == "Supervisor"
        await page.goto(served.server.url + "/docs")
        await expect(page.get_by_text("/api/v1/agents/{agent_id}/{action}")).to_be_visible()
        await browser.close()
    assert problems == []
