"""Asks the supervisor that runs on a registry: found by its lock, asked over its admin API."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.core.errors import RegistryNotFoundError, SupervisorError
from supervisor.core.replicas import ReplicaStatus
from supervisor.core.status import AgentStatus, Overview
from supervisor.settings import Settings
from supervisor.store import LockInfo
from supervisor.store.opening import lock_holders, require_registry

_ANSWER_SECONDS: Final = 10.0
#: A supervisor that has just started holds its lock for a moment before its admin API answers.
_STARTING_SECONDS: Final = 3.0
#: A stream of events has a beat every 15 s; without one for so long the supervisor is gone.
_SILENT_SECONDS: Final = 40.0
#: What a request says of whoever sends it, from its method and its path.
Sign = Callable[[str, str], Mapping[str, str]]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow none: whoever is asked answers itself."""


#: The way to a supervisor leads through no proxy, whatever the environment says.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


@dataclasses.dataclass(frozen=True)
class LiveEvent:
    """One event: its id, its kind (``state``, ``log``, ``gap``), and its fields."""

    id: str
    kind: str
    fields: dict[str, Any]


class NotRunningError(SupervisorError):
    """No supervisor runs on this registry."""


class UnreachableError(SupervisorError):
    """A supervisor holds the registry and does not answer."""


class ConflictError(SupervisorError):
    """What was asked does not go with how things are."""


class LiveSupervisor:
    """A supervisor's admin API.

    Args:
        url: where it listens.
        sign: proves who asks.
        who: what to call it in errors.
        answer_seconds: the longest that it may take to answer a question.
    """

    def __init__(self, url: str, sign: Sign, who: str, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self.url = url
        self.who = who
        self._answer_seconds = answer_seconds
        self._sign = sign

    def overview(self) -> Overview:
        """The whole supervisor in a few figures.

        Raises:
            UnreachableError: it does not answer.
            SupervisorError: it refuses; says why.
        """
        found = msgspec.convert(self._ask("GET", "/api/v1/status"), Overview)
        return dataclasses.replace(found, replicas=tuple(marked(found.replicas)))

    def replicas(self) -> list[ReplicaStatus]:
        """The supervisors that share the registry."""
        return marked(msgspec.convert(self._ask("GET", "/api/v1/replicas"), list[ReplicaStatus]))

    def statuses(self) -> list[AgentStatus]:
        """Every agent."""
        return msgspec.convert(self._ask("GET", "/api/v1/agents"), list[AgentStatus])

    def status(self, agent_id: str) -> AgentStatus:
        """One agent."""
        return msgspec.convert(self._ask("GET", f"/api/v1/agents/{_quoted(agent_id)}"), AgentStatus)

    def act(self, agent_id: str, action: str) -> AgentStatus:
        """Do something to an agent; ``action``: pause, resume or reload. Raises as :meth:`overview` does."""
        return msgspec.convert(self._ask("POST", f"/api/v1/agents/{_quoted(agent_id)}/{action}"), AgentStatus)

    def cancel_message(self, number: int) -> bool:
        """Cancel a message that waits, runs or hangs; False where it had ended. Raises as :meth:`overview` does."""
        try:
            self._ask("POST", f"/api/v1/messages/{number}/cancel")
        except ConflictError:
            return False
        return True

    def events(
        self, wanted: Mapping[str, Any], *, last: int, follow: bool, after: str | None = None
    ) -> Iterator[LiveEvent]:
        """What happened and, with ``follow``, what happens, until the supervisor ends.

        Args:
            wanted: which events, as the query of ``GET /api/v1/events`` says it; what is None or empty is left out.
            last: begin with so many events that were.
            after: the id of an event: go on after that one instead.

        Raises:
            UnreachableError: the supervisor went away.
        """
        given = {name: value for name, value in wanted.items() if value not in (None, "", ())}
        query = urllib.parse.urlencode({"last": last, "follow": str(follow).lower(), **given}, doseq=True)
        path = f"/api/v1/events?{query}"
        with self._open("GET", path, {"Last-Event-ID": after} if after else {}, _SILENT_SECONDS) as answer:
            try:
                yield from _events(answer)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise UnreachableError(f"{self.who} went away: {error or type(error).__name__}") from None

    def _ask(self, method: str, path: str) -> Any:
        with self._open(method, path, {}, self._answer_seconds) as answer:
            try:
                return json.load(answer)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._unreachable(error) from None

    def _open(self, method: str, path: str, headers: Mapping[str, str], seconds: float) -> http.client.HTTPResponse:
        try:
            signed = {**self._sign(method, path), **headers}
            made = urllib.request.Request(self.url + path, method=method, headers=signed)  # noqa: S310  http only
            answer: http.client.HTTPResponse = _OPENER.open(made, timeout=seconds)
        except urllib.error.HTTPError as error:
            kind = ConflictError if error.code == http.HTTPStatus.CONFLICT else SupervisorError
            raise kind(self._refusal(error)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(error) from None
        return answer

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = getattr(error, "reason", None) or error
        return UnreachableError(f"{self.who} does not answer at {self.url}: {reason}")

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        with error:
            if error.code == http.HTTPStatus.UNAUTHORIZED:
                return f"{self.who} refuses the admin token; set SUPERVISOR_ADMIN_TOKEN to the one it was started with"
            try:
                return str(json.load(error)["error"])
            except (ValueError, KeyError, TypeError):
                return f"{self.who} answered {error.code} {error.reason}; is {self.url} its admin API?"


def _events(lines: Iterable[bytes]) -> Iterator[LiveEvent]:
    """Server-sent events from their lines; the other kinds of lines say nothing that is needed here."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield LiveEvent(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
            fields = {}


def _quoted(agent_id: str) -> str:
    return urllib.parse.quote(agent_id, safe="")


def find(
    settings: Settings, registry_uuid: str | None = None, *, answer_seconds: float = _ANSWER_SECONDS
) -> LiveSupervisor | None:
    """A supervisor that runs on the settings' registry, the first that answers; None when none does.

    Args:
        registry_uuid: the registry's own; a supervisor that names another one is not the one we look for.
        answer_seconds: the longest that it may take to answer a question.

    Raises:
        UnreachableError: one holds the lock and does not answer, or it is another registry's.
    """
    deadline = time.monotonic() + _STARTING_SECONDS
    while holders := lock_holders(settings.registry_url):
        silent: list[UnreachableError] = []
        for holder in holders:
            live = _of(holder, settings, answer_seconds)
            try:
                overview = live.overview()
            except UnreachableError as error:
                silent.append(error)
                continue
            if registry_uuid is not None and overview.registry_uuid != registry_uuid:
                raise UnreachableError(f"{live.who} at {live.url} runs another registry; nothing was asked of it")
            return live
        if time.monotonic() > deadline:
            raise silent[0]
        time.sleep(0.1)
    return None


def marked(replicas: Sequence[ReplicaStatus]) -> list[ReplicaStatus]:
    """The replicas, with a mark at the one of this host; where it has several nobody can tell which is meant."""
    here = [one.id for one in replicas if one.host == socket.gethostname()]
    return [dataclasses.replace(one, me=here == [one.id]) for one in replicas]


def _of(holder: LockInfo, settings: Settings, answer_seconds: float) -> LiveSupervisor:
    who = f"The supervisor (pid {holder.pid} on {holder.host})" if holder.pid else "The supervisor"
    url = holder.address or f"http://{settings.admin_host}:{settings.admin_port}"
    sign = _signing(holder, settings, answer_seconds)
    return LiveSupervisor(url.rstrip("/"), sign, who, answer_seconds=answer_seconds)


def _signing(holder: LockInfo, settings: Settings, answer_seconds: float) -> Sign:
    token = settings.admin_token.get_secret_value() if settings.admin_token else ""
    if token and holder.number:
        # The address is whatever a table says: the token itself is not sent there.
        from supervisor.cli.signature import Signature  # noqa: PLC0415  what servers are made of comes with it

        return Signature(token, holder, _OPENER, answer_seconds).headers
    return lambda _method, _path: {"Authorization": f"Bearer {token}"} if token else {}


def _none_runs(settings: Settings) -> str:
    try:
        require_registry(settings.registry_url)
    except RegistryNotFoundError as error:
        return f"No supervisor runs on this registry. {error}"
    return "No supervisor runs on this registry; start it with: supervisor run"


def require(settings: Settings, registry_uuid: str | None = None) -> LiveSupervisor:
    """The supervisor that runs on the settings' registry.

    Raises:
        NotRunningError: none does.
        UnreachableError: one does, and does not answer.
    """
    found = find(settings, registry_uuid)
    if found is None:
        raise NotRunningError(_none_runs(settings))
    return found
