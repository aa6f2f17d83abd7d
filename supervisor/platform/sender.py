"""Sends messages over one connection as the platform at its other end takes them (docs/protocol.md#4-sending)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from supervisor.core.errors import AckTimeoutError, AlreadyStoredError, ConnectionLostError, PlatformError
from supervisor.platform.repeats import DROPPED, Repeats
from supervisor.platform.sends import Sends, is_stored, refusal, wants_join
from supervisor.protocol.events import SendOutcome
from supervisor.protocol.outbound import later_form

#: Told once what became of a message: the platform's id of it where it told one, or the error.
OnSent = Callable[[str | None, PlatformError | None], None]


class _Message(NamedTuple):
    message_id: str
    conversation_id: str
    body: bytes
    timeout: float
    then: OnSent


class Sender:
    """One connection's sends: each goes out where it is asked for, and only the rare one makes a task.

    Args:
        sends: those in flight.
        repeats: what the agent has sent lately, over whichever connection.
        later: whether the agents' gateway of the third generation is at the other end.
        join: joins a conversation.
        start_task: begins what ends with the connection.
    """

    def __init__(
        self,
        sends: Sends,
        repeats: Repeats,
        *,
        later: Callable[[], bool],
        join: Callable[[str, float], Awaitable[bool]],
        start_task: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self._sends = sends
        self._repeats = repeats
        self._later = later
        self._join = join
        self._start_task = start_task

    def send(self, message_id: str, conversation_id: str, body: bytes, timeout: float, then: OnSent) -> None:
        """See :meth:`supervisor.platform.connection.Connection.send_soon`."""
        if not self._later():
            self._put(_Message(message_id, conversation_id, body, timeout, then), again=False)
            return
        message = _Message(message_id, conversation_id, later_form(body), timeout, then)
        loop = asyncio.get_running_loop()
        # An equal message would be dropped, and acknowledged as if it had not been.
        wait_seconds = self._repeats.wait_seconds(message.body, loop.time())
        if wait_seconds > 0:
            loop.call_later(wait_seconds, partial(self._put_later, message, again=False))
        else:
            self._put_later(message, again=False)

    def _put_later(self, message: _Message, *, again: bool) -> None:
        self._repeats.sent(message.body, asyncio.get_running_loop().time())
        self._put(message, again=again)

    def _put(self, message: _Message, *, again: bool) -> None:
        message_id, conversation_id, body, timeout, _ = message
        self._sends.send(message_id, conversation_id, body, timeout, partial(self._told, message, again))

    def _told(self, message: _Message, again: bool, outcome: SendOutcome | None, error: PlatformError | None) -> None:
        if outcome is not None and outcome.success and outcome.message_id != DROPPED:
            # As nearly all do.
            message.then(outcome.message_id, None)
        elif outcome is not None and not again and wants_join(outcome):
            self._join_and_put(message)
        else:
            message.then(None, _trouble(outcome, error, message.message_id))

    def _join_and_put(self, message: _Message) -> None:
        """Join the message's conversation and send it once more."""
        # Holds where the task is cancelled before it has begun.
        trouble: PlatformError | None = ConnectionLostError("the connection was closed before a message was sent again")

        async def join() -> None:
            nonlocal trouble
            try:
                await self._join(message.conversation_id, message.timeout)
                trouble = None
            except PlatformError as error:
                trouble = error

        def joined(_task: asyncio.Task[None]) -> None:
            if trouble is None:
                put = self._put_later if self._later() else self._put
                put(message, again=True)
            else:
                message.then(None, trouble)

        self._start_task(join(), "join to send").add_done_callback(joined)

    async def send_and_wait(self, message_id: str, conversation_id: str, body: bytes, timeout: float) -> str | None:
        """See :meth:`supervisor.platform.connection.Connection.send`."""
        # A result rather than an exception: a caller cancelled at this very moment would leave one unretrieved.
        sent: asyncio.Future[tuple[str | None, PlatformError | None]] = asyncio.get_running_loop().create_future()

        def then(known_as: str | None, error: PlatformError | None) -> None:
            if not sent.done():
                sent.set_result((known_as, error))

        self.send(message_id, conversation_id, body, timeout, then)
        known_as, error = await sent
        if error is not None:
            raise error
        return known_as


def _trouble(outcome: SendOutcome | None, error: PlatformError | None, message_id: str) -> PlatformError | None:
    """What an outcome means to whoever sends, where it is not that the platform has the message."""
    if outcome is None:
        return error
    if outcome.message_id == DROPPED:
        said = "the platform took the message for a repetition of one that it may not have stored"
        return AckTimeoutError(said)
    reason = outcome.error or "no reason given"
    return AlreadyStoredError(reason) if is_stored(reason, message_id) else refusal(reason)
