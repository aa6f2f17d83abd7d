"""What the platform orders an agent to do, by ``agent:command`` (docs/protocol.md#85-commands-from-the-platform).

The event is not acknowledged and comes to each of the agent's sockets. Which commands are obeyed says
PLATFORM_COMMANDS. None touches the agent's row.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from supervisor import __version__
from supervisor.core.errors import RegistryError
from supervisor.core.records import NewReply
from supervisor.core.tasks import TaskSet
from supervisor.handler import Reply
from supervisor.handlers import to_outbound
from supervisor.messages.commands import RELOAD_SECONDS, AgentActions
from supervisor.messages.inbox import Inbox
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.sleeping import Sleeping
from supervisor.platform.connection import Connection
from supervisor.platform.heartbeats import Pulse
from supervisor.protocol import reply_id
from supervisor.protocol.text import is_id

#: So soon after another of the agent's sockets the same command is the same one.
TWICE_SECONDS: Final = 5.0
_MAX_REASON_CHARS: Final = 200
#: Larger than every number of the journal's: whatever came before now.
_ANY: Final = 2**62


@dataclass(frozen=True, slots=True)
class Reach:
    """What orders reach into.

    Args:
        stop_answer: cancels the answer that is being made in a conversation; whether there was one.
    """

    inbox: Inbox
    outbox: Outbox
    participation: Participation
    sleeping: Sleeping
    pulse: Pulse
    stop_answer: Callable[[str, int], Awaitable[bool]]


class Orders:
    """One agent's commands from the platform."""

    def __init__(self, profile: Profile, actions: AgentActions, reach: Reach) -> None:
        self._profile = profile
        self._actions = actions
        self._reach = reach
        self._scope = profile.scope
        self._tasks = TaskSet()
        self._recent: list[tuple[float, object, Connection]] = []
        self._reloaded_at: float | None = None
        self._reload_waits = False
        self._answers = 0

    def receive(self, payload: object, source: Connection) -> None:
        """Take an ``agent:command``; returns at once, never raises for what the payload holds."""
        command = payload if isinstance(payload, Mapping) else {}
        name = command.get("type")
        work = _ORDERS.get(name) if isinstance(name, str) else None
        if work is None:
            self._scope.metrics.unknown("event")
        elif name not in self._profile.deployment.platform_commands:
            remedy = "PLATFORM_COMMANDS names what is obeyed"
            self._scope.log.info("platform_command_ignored", command=name, remedy=remedy)
        elif not self._is_second(command, source):
            self._scope.log.info("platform_command", command=name)
            self._tasks.spawn(self._obey(work, command), f"order {self._scope.agent_id}")

    def _is_second(self, command: Mapping[str, Any], source: Connection) -> bool:
        """Whether another of the agent's sockets has brought this very command a moment ago."""
        now = self._scope.clock.monotonic()
        while self._recent and now - self._recent[0][0] > TWICE_SECONDS:
            self._recent.pop(0)
        if any(seen == command and other is not source for _, seen, other in self._recent):
            return True
        self._recent.append((now, command, source))
        return False

    async def _obey(
        self, work: Callable[[Orders, Mapping[str, Any]], Coroutine[Any, Any, None]], command: Mapping[str, Any]
    ) -> None:
        try:
            await work(self, command)
        except Exception:
            self._scope.log.exception("platform_command_failed", command=command.get("type"))

    async def _stop(self, command: Mapping[str, Any]) -> None:
        conversation_id = command.get("conversationId")
        if isinstance(conversation_id, str):
            await self._reach.stop_answer(conversation_id, _ANY)

    async def _reload(self, _command: Mapping[str, Any]) -> None:
        """No faster than from a chat; what comes sooner is done once the time is over: there may be an edit between."""
        if self._reload_waits:
            return
        clock = self._scope.clock
        if self._reloaded_at is not None and (passed := clock.monotonic() - self._reloaded_at) < RELOAD_SECONDS:
            self._reload_waits = True
            await clock.sleep(RELOAD_SECONDS - passed)
            self._reload_waits = False
        self._reloaded_at = clock.monotonic()
        await self._actions.reload()

    async def _sleep(self, command: Mapping[str, Any]) -> None:
        reason = command.get("reason")
        shown = self._profile.secrecy.shown(reason, _MAX_REASON_CHARS) if isinstance(reason, str) else ""
        until = _seconds(command.get("until"))
        if until is not None and until <= self._scope.clock.now():
            return
        self._reach.sleeping.begin(shown, until)
        self._beat()

    async def _wake(self, _command: Mapping[str, Any]) -> None:
        self._reach.sleeping.end("the platform woke it")
        # Also where it was not known to sleep: the platform may have put it to sleep by itself.
        self._beat()

    def _beat(self) -> None:
        """Say at once what the next heartbeat would say."""
        self._reach.participation.emit("agent:heartbeat", self._reach.pulse.payload())

    async def _inspect(self, command: Mapping[str, Any]) -> None:
        conversation_id = command.get("conversationId")
        if not (isinstance(conversation_id, str) and is_id(conversation_id)):
            # An answer is a message, and a message needs a conversation.
            return
        text = self._profile.secrecy.redact(json.dumps(self._condition(), ensure_ascii=False))
        message = to_outbound(
            Reply(text, type="system"), conversation_id=conversation_id, agent_id=self._scope.agent_id
        )
        self._answers += 1
        key = f"inspect {self._scope.clock.now()!r}"
        message = msgspec.structs.replace(message, id=reply_id(self._scope.agent_id, key, self._answers, 0))
        try:
            reply = await self._scope.journal.add_reply(self._scope.agent_id, None, NewReply(0, message))
        except RegistryError as error:
            self._scope.log.warning("inspect_not_answered", reason=str(error))
        else:
            self._reach.outbox.push(reply, None)

    def _condition(self) -> dict[str, Any]:
        """What anybody who may see the agent's conversations may know of it."""
        situation, counts = self._actions.situation(), self._reach.inbox.counts
        model = self._profile.merged_settings.get("model")
        sleep = self._reach.sleeping.current
        return {
            "agent": {"id": self._scope.agent_id, "name": self._profile.info.name},
            "supervisor": __version__,
            "handler": situation.handler,
            "model": model if isinstance(model, str) else None,
            "state": str(situation.state),
            "since": _iso(situation.since),
            "health": "failing" if self._profile.health.failing else "ok",
            "messages": {"waiting": counts.available, "running": counts.running, "dead": counts.dead},
            "asleep": None if sleep is None else {"since": _iso(sleep.since), "until": _iso(sleep.until)},
        }

    async def close(self) -> None:
        """Stop at once; what was not done is not done."""
        await self._tasks.cancel()


def _seconds(moment: object) -> float | None:
    """An ISO time as seconds since the epoch; None for anything else."""
    if not isinstance(moment, str):
        return None
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_ORDERS: Final[dict[str, Callable[[Orders, Mapping[str, Any]], Coroutine[Any, Any, None]]]] = {
    "stop": Orders._stop,
    "reload": Orders._reload,
    "inspect": Orders._inspect,
    "sleep": Orders._sleep,
    "wake": Orders._wake,
}
