"""The admin API of a running supervisor, as its own description tells it, and values to ask it with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from hypothesis import strategies as st
from yarl import URL

from supervisor.core.states import MessageState
from tests.support.observing import Bystander, captured_logs, handlers_folder
from tests.support.stack import SECRET, Stack, stack

ADMIN_TOKEN = "adm1n-t0ken-of-the-test"
#: A handler that tells the token in its errors: they are kept, and shown by the API.
TELLING = "async def on_message(message, ctx):\n    raise RuntimeError('tool refused ' + ctx.token())\n"
METHODS = {"get", "post", "put", "patch", "delete"}
NASTY = [
    "..",
    "../../etc/passwd",
    "%2e%2e%2f",
    "%00",
    "\x00",
    "a\nb",
    "\u202e",
    "é" * 100,
    "x" * 5000,
    "' OR 1=1 --",
    "<script>",
    "{}",
    "0",
    "-1",
    "9" * 40,
    "1e999",
    "NaN",
    "null",
    "true",
    " ",
]
texts = st.sampled_from(NASTY) | st.text(max_size=30)
junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.lists(texts, max_size=3),
    st.dictionaries(texts, texts, max_size=3),
)


@dataclass(frozen=True)
class Operation:
    """One endpoint of the description."""

    method: str
    path: str
    parameters: tuple[dict[str, Any], ...]
    body: dict[str, Any] | None


def operations(described: dict[str, Any]) -> Iterator[Operation]:
    """Every endpoint that the description names."""
    for path, methods in described["paths"].items():
        for method in METHODS & set(methods):
            one = methods[method]
            content = one.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema") if content else None
            yield Operation(method.upper(), path, tuple(one.get("parameters", ())), schema)


def fitting(schema: dict[str, Any], described: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that fit a schema, and some that do not."""
    if reference := schema.get("$ref"):
        return fitting(described["components"]["schemas"][reference.rpartition("/")[2]], described, depth)
    if depth > 4:
        return junk
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if choices:
        return st.one_of(junk, *[fitting(choice, described, depth + 1) for choice in choices])
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | junk
    match schema.get("type"):
        case "object":
            own = {name: fitting(one, described, depth + 1) for name, one in schema.get("properties", {}).items()}
            return junk | st.fixed_dictionaries({}, optional=own) if own else junk
        case "array":
            return junk | st.lists(fitting(schema.get("items", {}), described, depth + 1), max_size=3)
        case "string":
            return texts | junk
        case "integer":
            return st.integers() | junk
    return junk


@dataclass
class Admin:
    """A supervisor with a token, one agent, and a dead letter of it."""

    fleet: Stack
    session: aiohttp.ClientSession
    described: dict[str, Any]
    agent: str
    message: int
    secrets: list[str]

    async def ask(self, method: str, target: str, **given: Any) -> tuple[int, str]:
        """Send a request as it is; its status, and the beginning of its answer, which must hold no secret."""
        url = URL(self.fleet.service.admin_url + target, encoded=True)
        async with asyncio.timeout(30), self.session.request(method, url, **given) as answer:
            streams = answer.content_type == "text/event-stream"
            body = await answer.content.readany() if streams else await answer.read()
        self.look(answer.status, f"{method} {target[:200]}", body, dict(answer.headers))
        return answer.status, body.decode("utf-8", "replace")

    def look(self, status: int, asked: str, body: bytes, headers: object = None) -> None:
        """Fails on an answer that says 500 or more, or that holds a secret."""
        assert status < 500, (asked, status, body[:500])
        shown = body.decode("utf-8", "replace") + str(headers)
        for secret in self.secrets:
            assert secret not in shown, asked

    def target(self, operation: Operation, path: dict[str, Any], query: dict[str, Any]) -> str:
        """The path and query of a request."""
        filled = operation.path
        for name, value in path.items():
            filled = filled.replace("{" + name + "}", quote(str(value), safe=""))
        pairs = [f"{quote(name)}={quote(str(value), safe='')}" for name, value in query.items()]
        return filled + ("?" + "&".join(pairs) if pairs else "")

    def known(self, name: str) -> Any:
        """A value for a path parameter that exists."""
        return self.agent if "agent" in name else "reload" if name == "action" else self.message

    def plain(self, operation: Operation) -> str:
        """A request of this endpoint for something that exists."""
        names = [one["name"] for one in operation.parameters if one["in"] == "path"]
        return self.target(operation, {name: self.known(name) for name in names}, {})


@asynccontextmanager
async def admin(folder: Path, **given: Any) -> AsyncIterator[Admin]:
    """A running supervisor and a client of its API; nothing that it logged afterwards is a defect."""
    agents_dir = handlers_folder(folder, {"telling": TELLING})
    with captured_logs() as log:
        async with stack(folder, agents_dir=agents_dir, **given) as fleet, aiohttp.ClientSession() as session:
            bystander = await Bystander.join(fleet)
            identity = await fleet.add(1, "telling", settings={"max_attempts": 1, "api_key": SECRET})
            await fleet.online(2)
            await fleet.ask(identity, "hello")
            [dead] = await fleet.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
            grants = [fleet.service.fleet.runner(one).agent.grant for one in (identity, bystander.id)]
            tokens = [grant.token for grant in grants if grant is not None]
            async with session.get(f"{fleet.service.admin_url}/openapi.json") as answer:
                described = await answer.json()
            secrets = [SECRET, ADMIN_TOKEN, *tokens, *[token.rpartition(".")[2] for token in tokens]]
            made = Admin(fleet, session, described, identity, dead.id, secrets)
            yield made
            assert fleet.service.control.status(bystander.id) is not None
            await bystander.answers()
    assert not [entry for entry in log if "exc_info" in entry]
