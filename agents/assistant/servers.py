"""The platform's tool servers for one run: connected for it alone, each call with the current token.

A toolset that is held open over its server's outage fails for ever after (pydantic-ai), so none outlives its run. A
server that is dead or hangs costs its tools, not the answer, and is found dead once: until it answers a probe, messages
do without it (docs/faults.md#r38).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_ai.toolsets import AbstractToolset

from supervisor.handler import AgentContext, Context

from .connection import Connection, close, settled
from .own import Own, OwnTools
from .settings import AssistantSettings
from .shared import Shared
from .tools import ServerTools

#: When a dead server is probed: after so long, then twice as long, up to the cap.
PROBE_SECONDS: Final = 1.0
PROBE_CAP_SECONDS: Final = 60.0
#: Without messages for so long nobody probes: the next message finds out.
IDLE_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run has: toolsets that are there, servers that should be and are not, and what is wrong with any."""

    toolsets: Sequence[AbstractToolset[None]]
    missing: Sequence[str]
    remarks: Sequence[str]


@dataclass(slots=True)
class _Dead:
    """A server that cannot be used, and the task that tries it again."""

    url: str
    reason: str
    probe: asyncio.Task[None]
    wanted_at: float


@dataclass(slots=True)
class Servers:
    """What one agent knows of its tool servers.

    Args:
        agent: the agent's own context, for probes; messages' end with their message.
        probe_seconds: after how long a dead server is probed first.
    """

    agent: AgentContext | None = None
    probe_seconds: float = PROBE_SECONDS
    _dead: dict[str, _Dead] = field(default_factory=dict)
    #: What was logged, so that it is logged once.
    _logged: dict[str, Any] = field(default_factory=dict)

    def dead(self, name: str, url: str) -> str | None:
        """Why a server need not be asked now; None: it has to be."""
        known = self._dead.get(name)
        if known is None:
            return None
        if known.url != url or known.probe.done():
            known.probe.cancel()
            del self._dead[name]
            return None
        known.wanted_at = asyncio.get_running_loop().time()
        return known.reason

    def failed(self, ctx: Context, connection: tuple[str, str], reason: str, shared: Shared) -> None:
        """A server could not be used: it is probed beside, until it can."""
        name, url = connection
        self.log_left_out(ctx, name, reason)
        # Of messages that found it dead at once the first begins to probe.
        if self.dead(name, url) is not None:
            return
        probe = asyncio.create_task(self._probe(ctx, name, url, shared), name=f"probe {name}")
        self._dead[name] = _Dead(url, reason, probe, asyncio.get_running_loop().time())

    def works(self, ctx: AgentContext, name: str, left_out: Mapping[str, str]) -> None:
        """A server is connected."""
        logged = self._logged.get(name)
        if logged and not isinstance(logged, dict):
            ctx.log.info("tool_server_back", server=name)
        if left_out and logged != left_out:
            ctx.log.warning("tools_left_out", server=name, tools=dict(left_out))
        self._logged[name] = dict(left_out)

    def log_left_out(self, ctx: AgentContext, name: str, reason: str, *, unfit: bool = False) -> None:
        """Log what is wrong with a server, unless that is known; one that cannot be meant for us worries nobody."""
        if self._logged.get(name) != reason:
            self._logged[name] = reason
            log = ctx.log.debug if unfit else ctx.log.warning
            log("tool_server_left_out", server=name, reason=reason)

    async def _probe(self, ctx: AgentContext, name: str, url: str, shared: Shared) -> None:
        """Try a dead server until it answers, or nobody has wanted it for long; its end makes it be asked again."""
        agent, delay = self.agent or ctx, self.probe_seconds
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(delay)
            if loop.time() - self._dead[name].wanted_at > IDLE_SECONDS:
                return
            connection = Connection(agent, name, url, shared, AssistantSettings.read(agent))
            try:
                await settled([connection], AssistantSettings.read(agent).connect_seconds)
                reason = connection.problem
                left_out = connection.left_out
            finally:
                await close([connection])
            if reason is None:
                self.works(agent, name, left_out)
                return
            self._dead[name].reason = reason
            delay = min(delay * 2, PROBE_CAP_SECONDS)

    async def stop(self) -> None:
        """Probe nothing any more."""
        probes = [known.probe for known in self._dead.values()]
        self._dead.clear()
        for probe in probes:
            probe.cancel()
        if probes:
            await asyncio.wait(probes)


def is_local(url: str) -> bool:
    """Whether a URL means the machine it is used on."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _unfit(config: object, *, local: bool) -> str | None:
    """Why a server cannot be used, if so."""
    url = config.get("url") if isinstance(config, Mapping) else None
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return "it has no http(s) URL"
    try:
        here = is_local(url)
    except ValueError:
        return "its URL cannot be read"
    if here and not local:
        return "its URL is the platform's default at localhost, which cannot be reached from here"
    return None


@asynccontextmanager
async def connected(
    ctx: Context, settings: AssistantSettings, shared: Shared, servers: Servers, own: Own
) -> AsyncIterator[Tools]:
    """The agent's own tools and all its servers, connected at once; those that are not ready in time are left out."""
    connections: dict[str, tuple[str, Connection]] = {}
    missing: dict[str, str] = {}
    for name, config in ctx.mcp_servers.items():
        if reason := _unfit(config, local=settings.allow_local_tools):
            servers.log_left_out(ctx, name, reason, unfit=True)
        elif (why := servers.dead(name, url := config["url"])) is not None:
            missing[name] = why
        else:
            connections[name] = url, Connection(ctx, name, url, shared, settings)
    try:
        if connections:
            await settled([connection for _, connection in connections.values()], settings.connect_seconds)
        # Its own first: where a model takes fewer tools, those of servers go.
        up: list[AbstractToolset[None]] = [OwnTools(own, ctx, settings)] if own.tools else []
        remarks = list(own.wrong)
        for name, (url, connection) in connections.items():
            if reason := connection.problem:
                servers.failed(ctx, (name, url), reason, shared)
                missing[name] = reason
                continue
            servers.works(ctx, name, connection.left_out)
            remarks += [f"tool {tool} of {name} is left out: {why}" for tool, why in connection.left_out.items()]
            up.append(ServerTools(connection.toolset, name, ctx, settings, own.tools, remarks))
        remarks[:0] = [f"tool server {name}: {reason}" for name, reason in missing.items()]
        yield Tools(up, list(missing), remarks)
    finally:
        if connections:
            await close([connection for _, connection in connections.values()])
