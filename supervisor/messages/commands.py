"""What a person may tell an agent in its chat, whatever its handler is: ``/stop``, ``/reload``, ``/status``.

A command goes past the lane of its conversation. It is journaled like every message, and its answer is committed
together with the settling of the message. A row's setting ``commands: false`` makes commands ordinary messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from supervisor.core.command_words import RELOAD, STATUS, STOP, command_in
from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import AgentState, MessageState
from supervisor.core.tasks import TaskSet
from supervisor.handlers import to_outbound
from supervisor.messages.inbox import Inbox
from supervisor.messages.outbox import Outbox
from supervisor.messages.profile import Profile
from supervisor.messages.reply_ids import with_reply_id
from supervisor.messages.settling import UNSETTLED_RETRY_SECONDS, until_journaled
from supervisor.telemetry.failures import describe

#: An agent is reloaded from its chats at most once in this time.
RELOAD_SECONDS = 30.0
#: How long the answer to ``/reload`` waits for what comes of it.
RELOAD_ANSWER_SECONDS = 20.0
#: How much of a name, a handler or a model is shown.
SHOWN_CHARS = 100

STOPPED = "Stopped."
NOTHING_TO_STOP = "There is nothing to stop."
RELOADED = "Reloaded: instruction and settings are up to date."
RELOAD_FAILED = "Reloading did not work; I go on as I was. The supervisor's log says why."
RELOAD_UNDER_WAY = "Reloading takes longer than usual; it goes on."


@dataclass(frozen=True, slots=True)
class Situation:
    """How the agent is, as ``/status`` tells it; ``since`` in seconds since the epoch."""

    handler: str
    state: AgentState
    since: float


@dataclass(frozen=True, slots=True)
class AgentActions:
    """What commands ask of whoever runs the agent.

    Args:
        reload: reads handler, instruction and settings anew; empty once that is done, else why it did not work.
    """

    situation: Callable[[], Situation]
    reload: Callable[[], Awaitable[str]]


class Commands:
    """One agent's commands.

    Args:
        stop_answer: cancels the answer that is being made in a conversation to what came before a message of the given
            number; whether there was one.
        on_settled: told of a command that has its answer.
    """

    def __init__(
        self,
        profile: Profile,
        inbox: Inbox,
        outbox: Outbox,
        actions: AgentActions,
        *,
        stop_answer: Callable[[str, int], Awaitable[bool]],
        on_settled: Callable[[JournaledMessage], None],
    ) -> None:
        self._profile = profile
        self._inbox = inbox
        self._outbox = outbox
        self._actions = actions
        self._stop_answer = stop_answer
        self._scope = scope = profile.scope
        self._journal = scope.journal
        self._clock = scope.clock
        self._on_settled = on_settled
        self._reloaded_at: float | None = None
        self._tasks = TaskSet()

    def start(self, row: JournaledMessage) -> None:
        """Carry out a command that is journaled as running; returns at once."""
        self._tasks.spawn(self._run(row), f"command {row.agent_id}")

    async def _run(self, row: JournaledMessage) -> None:
        self._scope.bind_log(row)
        await self.work(row)
        self._on_settled(row)

    async def work_in_turn(self, row: JournaledMessage) -> float | None:
        """Carry out a command that an earlier process left undone: it comes through the lane.

        Returns:
            None when it is settled, else when to look at it again (seconds since the epoch).
        """
        self._scope.bind_log(row)
        try:
            await self.work(row)
        except Exception as error:
            known = isinstance(error, RegistryError)
            self._scope.log.warning("message_not_settled", reason=describe(error), exc_info=None if known else error)
            return self._clock.now() + UNSETTLED_RETRY_SECONDS
        return None

    async def work(self, row: JournaledMessage) -> None:
        """Carry out one command and settle it."""
        if row.state is not MessageState.RUNNING and not await self._journal.claim(row):
            return
        name = command_in(row.message) or ""
        try:
            text = await _COMMANDS[name](self, row)
        except Exception:
            self._scope.log.exception("command_failed", command=name)
            text = "Sorry, that did not work."
        await self._answer(row, text)
        self._scope.log.info("command", command=name)

    async def _answer(self, row: JournaledMessage, text: str) -> None:
        """Settle a command together with its answer, however often the database refuses it."""
        reply = self._profile.secrecy.redact(text)
        message = with_reply_id(to_outbound(reply, conversation_id=row.conversation_id, agent_id=row.agent_id), row, 0)
        replies = await until_journaled(
            self._scope,
            lambda: self._journal.settle(row, MessageState.DONE, replies=[NewReply(0, message)]),
        )
        for sent in replies or ():
            self._outbox.push(sent, row)

    async def _stop(self, row: JournaledMessage) -> str:
        # A command that was missed comes late and does not mean what was said after it.
        return STOPPED if await self._stop_answer(row.conversation_id, row.id) else NOTHING_TO_STOP

    async def _reload(self, _row: JournaledMessage) -> str:
        now = self._clock.monotonic()
        if self._reloaded_at is not None and (passed := now - self._reloaded_at) < RELOAD_SECONDS:
            wait = max(1, round(RELOAD_SECONDS - passed))
            return f"I was reloaded a moment ago; please try again in {wait} s."
        self._reloaded_at = now
        try:
            async with asyncio.timeout(RELOAD_ANSWER_SECONDS):
                reason = await self._actions.reload()
        except TimeoutError:
            return RELOAD_UNDER_WAY
        # The reason is for operators: it may tell of files and hosts.
        return RELOAD_FAILED if reason else RELOADED

    async def _status(self, _row: JournaledMessage) -> str:
        lines = {"Name": self._profile.info.name}
        model = self._profile.merged_settings.get("model")
        if isinstance(model, str) and model.strip():
            lines["Model"] = model
        situation = self._actions.situation()
        lines["Handler"] = situation.handler
        lines["State"] = str(situation.state)
        lines["Since"] = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(situation.since))
        # Commands count as messages and nobody waits for them.
        lines["Waiting messages"] = str(max(0, self._inbox.counts.available - len(self._tasks)))
        shown = self._profile.secrecy.shown
        return "\n".join(f"{name}: {shown(value, SHOWN_CHARS)}" for name, value in lines.items())

    async def close(self) -> None:
        """Stop at once; what has no answer yet is taken up at the next start."""
        await self._tasks.cancel()


_COMMANDS: dict[str, Callable[[Commands, JournaledMessage], Coroutine[Any, Any, str]]] = {
    STOP: Commands._stop,
    RELOAD: Commands._reload,
    STATUS: Commands._status,
}
