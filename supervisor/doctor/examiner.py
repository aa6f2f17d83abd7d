"""Checks one agent: its row, its handler and secret, then the whole way to the platform and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import (
    ConfigurationError,
    ConnectError,
    HandlerError,
    PlatformError,
    Verdict,
)
from supervisor.core.records import AgentRecord
from supervisor.doctor.cures import ELSEWHERE, REFUSED, handler_cure, is_elsewhere, row_cure, secret_cure
from supervisor.doctor.findings import Finding, Level, Report, Trouble, failed, misconfigured, trouble_of
from supervisor.doctor.path import Attempt, Prober, Walk, other_namespaces, other_paths
from supervisor.handlers import DaemonThreads, HandlerLoader, MountedHandler
from supervisor.handlers.loader import LOAD_SECONDS
from supervisor.net import Session
from supervisor.platform.connector import Caller, Connector
from supervisor.platform.endpoint import Endpoint, namespace_candidates, path_candidates
from supervisor.platform.hosts.api import PlatformApi
from supervisor.platform.hosts.engine_paths import EnginePaths
from supervisor.platform.hosts.facts import HostFacts
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.tokens import Grant, TokenClient
from supervisor.platform.tokens.notes import notes_of
from supervisor.platform.transport import Transport, choose_wire
from supervisor.settings import EffectiveSettings, Settings
from supervisor.settings.secrets import SecretResolver

#: No agent of the platform has it.
_NOBODY: Final = "0" * 24
_ASK_PEOPLE: Final = "ask the people of the platform, then try again"
_LATER: Final = "the platform or the way to it is ill: try again later, and look at the network between"


class Examiner:
    """Looks at agents with the parts that a supervisor uses. Made by :meth:`open`.

    Args:
        secrets: resolves the rows' references, in this process's environment.
        load_seconds: the longest that a handler's code may take to load.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        loader: HandlerLoader,
        secrets: SecretResolver,
        session: Session,
        gates: Gates,
        clock: Clock,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._secrets = secrets
        self._transport = Transport(session, make_wire=choose_wire(settings.wire), clock=clock)
        self._gates = gates
        self._clock = clock
        self._load_seconds = load_seconds
        self._imports = DaemonThreads(1, "doctor")
        # What each handler reference came to; None for a handler that loads.
        self._loaded: dict[str, HandlerError | None] = {}
        # The load that took too long. Its thread cannot be stopped, and there is no other.
        self._slow: tuple[str, Future[MountedHandler]] | None = None
        api = PlatformApi(session.http, clock, timeout_seconds=settings.handshake_seconds)
        self._paths = EnginePaths(api, clock)
        self._facts = HostFacts()
        self._tokens = TokenClient(
            api,
            gates,
            clock=clock,
            facts=self._facts,
            refresh_margin_seconds=settings.refresh_margin,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        loader: HandlerLoader,
        secrets: SecretResolver,
        clock: Clock | None = None,
        *,
        load_seconds: float = LOAD_SECONDS,
    ) -> AsyncIterator[Examiner]:
        """One with a session of its own.

        Raises:
            ConfigurationError: CA_FILE cannot be used.
        """
        clock = clock or SystemClock()
        session = await Session.open(ca_file=settings.ca_file)
        gates = Gates(
            connect_rate=settings.connect_rate,
            auth_rate=settings.auth_rate,
            connect_concurrency=settings.connect_concurrency,
            auth_concurrency=settings.auth_concurrency,
            clock=clock,
        )
        examiner = cls(
            settings,
            loader=loader,
            secrets=secrets,
            session=session,
            gates=gates,
            clock=clock,
            load_seconds=load_seconds,
        )
        try:
            yield examiner
        finally:
            await gates.close()
            await examiner._transport.close()
            await session.close()
            examiner._imports.shutdown(wait=False, cancel_futures=True)

    async def row(self, record: AgentRecord, report: Report, *, running: bool) -> tuple[EffectiveSettings, str] | None:
        """Check a row, its settings, handler and secret; the settings and the secret, None when one fails.

        Args:
            running: a supervisor runs, whose environment counts for secrets and not this process's.
        """
        change = f"mend it: supervisor agents update {record.id}"
        if record.problem:
            report(failed("row", record.problem, row_cure(record, record.problem), Trouble.CONFIGURATION, record.id))
            return None
        report(Finding("row", Level.OK, f"handler {record.handler}, secret {record.secret_place}", agent=record.id))
        own = self._own_settings(record, change, report)
        well = await self._handler(record, report)
        secret = self._secret(record, change, report, running=running)
        return (own, secret) if own is not None and well and secret is not None else None

    def _own_settings(self, record: AgentRecord, change: str, report: Report) -> EffectiveSettings | None:
        try:
            own = self._settings.effective(record.settings)
        except ConfigurationError as error:
            report(misconfigured("settings", error, f"{change} --set KEY=VALUE", record.id))
            return None
        report(Finding("settings", Level.OK, f"{len(record.settings)} of its own", agent=record.id))
        return own

    async def _handler(self, record: AgentRecord, report: Report) -> bool:
        if record.handler not in self._loaded:
            if self._slow is not None and not self._slow[1].done():
                text = f"{record.handler} was not tried: {self._slow[0]} still loads"
                report(Finding("handler", Level.WARN, text, "mend that one first, then look again", record.id))
                return True
            self._loaded[record.handler] = await self._load(record.handler)
        if (error := self._loaded[record.handler]) is not None:
            advice = handler_cure(error, f"supervisor agents update {record.id} --handler NAME")
            report(failed("handler", str(error), advice, Trouble.CONFIGURATION, record.id))
            return False
        report(Finding("handler", Level.OK, f"{record.handler} loads", agent=record.id))
        return True

    async def _load(self, reference: str) -> HandlerError | None:
        """Load a handler as the supervisor does; what keeps it from that, None for nothing."""
        load = self._imports.submit(self._loader.load, reference)
        try:
            async with asyncio.timeout(self._load_seconds):
                await asyncio.wrap_future(load)
        except HandlerError as error:
            return error
        except TimeoutError:
            self._slow = reference, load
            return HandlerError(f"Handler {reference!r} takes longer than {self._load_seconds:g} s to load")
        return None

    def _secret(self, record: AgentRecord, change: str, report: Report, *, running: bool) -> str | None:
        try:
            secret = self._secrets.resolve(record.secret)
        except ConfigurationError as error:
            if running and record.secret.startswith("env:"):
                text = f"{error}, as this command sees it: so nothing is asked of the platform"
                report(Finding("secret", Level.WARN, text, "run it where the supervisor runs", record.id))
                return None
            advice = f"{change} --secret-env, --secret-file or --secret-stdin"
            if record.secret.startswith("env:"):
                advice = f"give it a value where the supervisor runs, or {advice}"
            report(failed("secret", str(error), advice, Trouble.CONFIGURATION, record.id))
            return None
        report(Finding("secret", Level.OK, "can be read", agent=record.id))
        return secret

    async def token(self, record: AgentRecord, own: EffectiveSettings, secret: str, report: Report) -> Grant | None:
        """Ask for a token; None when there is none."""
        api_url = own.api_url
        host = urlsplit(api_url).netloc
        started = self._clock.monotonic()
        try:
            grant = await self._tokens.fetch(record.id, api_url, secret, proxy=self._settings.proxy)
        except PlatformError as error:
            trouble = Trouble.CONFIGURATION if is_elsewhere(error.reason) else trouble_of(error)
            advice = {
                Trouble.REFUSED: REFUSED + secret_cure(record),
                Trouble.CONFIGURATION: ELSEWHERE,
            }.get(trouble, _LATER)
            report(failed("token", error.reason, advice, trouble, record.id))
            return None
        took = _milliseconds(self._clock.monotonic() - started)
        hours = grant.seconds_left(self._clock) / 3600
        report(Finding("token", Level.OK, f"{host} gave one in {took}, good for {hours:.1f} h", agent=record.id))
        for note in notes_of(grant):
            report(Finding("role", Level.WARN, note, agent=record.id))
        if not grant.answer.instruction.configured:
            text = "the platform has no instruction for this agent"
            report(
                Finding(
                    "instruction", Level.WARN, text, "write one on the platform, if its handler needs it", record.id
                )
            )
        return grant

    async def endpoint(self, report: Report) -> None:
        """Whether the token endpoint answers as the platform does, where there is no agent to ask for."""
        host = urlsplit(self._settings.api_url).netloc
        try:
            await self._tokens.fetch(_NOBODY, self._settings.api_url, "doctor", proxy=self._settings.proxy)
        except PlatformError as error:
            # A refusal in the platform's own words proves that the platform is there.
            if error.verdict is Verdict.REJECT and not is_elsewhere(error.reason):
                report(Finding("token endpoint", Level.OK, f"{host} answers as the platform does"))
                return
            trouble = Trouble.PLATFORM if error.verdict is Verdict.RETRY else Trouble.CONFIGURATION
            advice = _LATER if trouble is Trouble.PLATFORM else "mend SUPERVISOR_API_URL"
            if trouble is Trouble.PLATFORM and "api_url" not in self._settings.model_fields_set:
                advice += "; to begin without a platform: supervisor demo"
            report(failed("token endpoint", error.reason, advice, trouble))
        else:
            report(Finding("token endpoint", Level.OK, f"{host} gives tokens"))

    async def path(self, record: AgentRecord, own: EffectiveSettings, grant: Grant, report: Report) -> bool:
        """Connect, be registered, and get an answer; whether all of it succeeded."""
        endpoint = self._endpoint(own)
        timeout_seconds = self._settings.handshake_seconds
        connector = Connector(
            self._transport,
            self._gates,
            self._paths,
            self._facts,
            Caller(record.id, lambda _connection, _event, _payload: None),
            timeout_seconds=timeout_seconds,
        )
        prober = Prober(connector, self._clock, grant=grant, timeout_seconds=timeout_seconds)
        walk = await prober.walk(endpoint)
        if walk.error is None:
            self._report_path(record, endpoint, walk.attempts, report)
            return True
        report(await self._trouble(record, endpoint, prober, walk=walk, error=walk.error))
        return False

    def _endpoint(self, own: EffectiveSettings) -> Endpoint:
        namespaces = namespace_candidates(own.ws_url, own.ws_namespace)
        others = path_candidates(own.ws_url, own.ws_path)
        return Endpoint(own.ws_url, namespaces, own.ws_path, own.token_via, self._settings.proxy, others)

    @staticmethod
    def _report_path(record: AgentRecord, endpoint: Endpoint, attempts: list[Attempt], report: Report) -> None:
        last = attempts[-1]
        missing = [attempt.way.namespace for attempt in attempts if attempt.error and attempt.error.invalid_namespace]
        beside = f"; it has no {', '.join(dict.fromkeys(missing))}" if missing else ""
        where = f"{endpoint.host}, namespace {last.way.namespace}, path {last.way.engine_path}"
        took = _milliseconds(last.connected_seconds)
        report(Finding("connect", Level.OK, f"{where}, token as {endpoint.token_via}: {took}{beside}", agent=record.id))
        talks = f", in conversation {last.conversation_id}" if last.conversation_id else ""
        proof = "its own presence came" if last.has_presence else "no presence came, and a heartbeat was answered"
        text = f"{proof} after {_milliseconds(last.registered_seconds)}{talks}"
        report(Finding("registered", Level.OK, text, agent=record.id))
        if last.acked_seconds is None:
            text = "the platform acknowledges no event; sends are settled by message:sent alone"
            report(Finding("round trip", Level.WARN, text, agent=record.id))
        else:
            text = f"an event was acknowledged after {_milliseconds(last.acked_seconds)}"
            report(Finding("round trip", Level.OK, text, agent=record.id))

    async def _trouble(
        self, record: AgentRecord, endpoint: Endpoint, prober: Prober, *, walk: Walk, error: ConnectError
    ) -> Finding:
        """What to say of an attempt that failed, after a look at whether another namespace or path would do."""
        others = other_namespaces(endpoint, walk.attempts)
        if error.invalid_namespace:
            cure = _cured(await prober.cure(others), "WS_NAMESPACE", endpoint)
            advice = cure or f"{_ASK_PEOPLE}; the namespace goes into SUPERVISOR_WS_NAMESPACE"
            text = f"the platform has no namespace {', '.join(endpoint.namespaces)}"
            return failed("connect", text, advice, Trouble.CONFIGURATION, record.id)
        if error.deaf:
            cure = _cured(await prober.cure(others), "WS_NAMESPACE", endpoint)
            text = f"{error.reason} in namespace {walk.failed.way.namespace}: it would be deaf"
            return failed("registered", text, cure or _ASK_PEOPLE, Trouble.DEAF, record.id)
        if error.wrong_path and (cured := await prober.cure(other_paths(endpoint))):
            cure = _cured(cured, "WS_PATH", endpoint)
            return failed("connect", error.reason, cure, Trouble.CONFIGURATION, record.id)
        if error.no_engine:
            advice = f"{_ASK_PEOPLE}; the path goes into SUPERVISOR_WS_PATH"
            return failed("connect", error.reason, advice, Trouble.CONFIGURATION, record.id)
        trouble = trouble_of(error)
        advice = {
            Trouble.REFUSED: REFUSED + secret_cure(record),
            Trouble.CONFIGURATION: "mend SUPERVISOR_WS_URL, SUPERVISOR_WS_NAMESPACE or the agent's own",
        }.get(trouble, _LATER)
        return failed("connect", error.reason, advice, trouble, record.id)


def _cured(attempt: Attempt | None, setting: str, endpoint: Endpoint) -> str:
    """What to change when another attempt leads to a registered agent."""
    if attempt is None:
        return ""
    value = attempt.way.namespace if setting == "WS_NAMESPACE" else attempt.way.engine_path
    auto = setting == "WS_NAMESPACE" and attempt.way.namespace in namespace_candidates(endpoint.url, "auto")
    said = f"set SUPERVISOR_{setting}={value}" + (" or auto" if auto else "")
    return f"{said} (or the agent's setting {setting.lower()}): with it the agent is registered"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
