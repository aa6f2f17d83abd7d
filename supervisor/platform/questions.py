"""Questions that nobody else sees; their acknowledgement proves something about a socket.

Which event is acknowledged differs between generations (docs/protocol.md#82-proof-of-being-registered), so the next
question is asked where one is not answered soon, and what was found out is remembered for the host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from supervisor.core.errors import AckTimeoutError, ConnectionLostError, PlatformError
from supervisor.platform.heartbeats import HeartbeatAnswer, Pulse, parse_heartbeat
from supervisor.platform.hosts.facts import SocketFacts
from supervisor.platform.transport import Socket

ONLINE: Final = "conversation:online"
TYPING: Final = "message:typing"
HEARTBEAT: Final = "agent:heartbeat"
#: In the order in which they are asked. A heartbeat comes last: on the newest platform it makes the socket that sends
#: it the one at which the agent is found (docs/protocol.md#83-heartbeat).
QUESTIONS: Final = (ONLINE, TYPING, HEARTBEAT)
#: How long a question may go unanswered before the next one is asked too.
NEXT_SECONDS: Final = 0.5
#: Nobody's: so nobody sees the question, and the platform answers all the same.
_NO_CONVERSATION: Final = "0" * 24
_PAYLOADS: Final[Mapping[str, Mapping[str, Any]]] = {
    ONLINE: {"conversationId": _NO_CONVERSATION},
    TYPING: {"conversationId": _NO_CONVERSATION, "isTyping": False},
}


class Questions:
    """Asks over one socket.

    Args:
        socket: gives the socket, once there is one.
        facts: what is known of its host and namespace; learns which events are acknowledged.
        pulse: what the agent's heartbeats say, and where that goes which they bring.
        next_seconds: how long a question may go unanswered before the next one is asked.
    """

    def __init__(
        self, socket: Callable[[], Socket], facts: SocketFacts, pulse: Pulse, *, next_seconds: float = NEXT_SECONDS
    ) -> None:
        self._socket = socket
        self._facts = facts
        self._pulse = pulse
        self._next_seconds = next_seconds

    async def beat(self, timeout: float) -> HeartbeatAnswer:
        """Send one heartbeat, whatever it is for, and hand on the works that its answer brings.

        Returns:
            The answer; a token in it comes again with each heartbeat, and may be left to a later one.

        Raises:
            ConnectionLostError, AckTimeoutError: no answer came within ``timeout`` seconds.
            PlatformError: the platform refused it.
        """
        answer = parse_heartbeat(await self._call(HEARTBEAT, self._pulse.payload(), timeout))
        self._pulse.take(answer)
        return answer

    async def _call(self, event: str, payload: Mapping[str, Any], timeout: float) -> object:
        answer = await self._socket().call(event, payload, timeout)
        self._facts.answered(event)
        return answer

    async def _ask(self, event: str, timeout: float) -> None:
        """Ask one question; returns once it is answered, however.

        Raises:
            ConnectionLostError, AckTimeoutError: no answer came within ``timeout`` seconds.
        """
        if event != HEARTBEAT:
            await self._call(event, _PAYLOADS[event], timeout)
            return
        try:
            await self.beat(timeout)
        except (ConnectionLostError, AckTimeoutError):
            raise
        except PlatformError:
            # A refusal is an answer too; the agent's own heartbeats hear of it and act on it.
            return

    async def any_answer(self, timeout: float, *, beats: bool = True) -> str:
        """Ask until one question is answered, however; the event that was.

        Args:
            beats: whether a heartbeat may be one of them.

        Raises:
            ConnectionLostError, AckTimeoutError: no answer came within ``timeout`` seconds.
        """
        asked: dict[asyncio.Task[None], str] = {}
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        try:
            for event in self._in_order(beats=beats):
                left = ends - loop.time()
                if left <= 0:
                    break
                asked[asyncio.create_task(self._ask(event, left), name=f"ask {event}")] = event
                if (answered := await self._answered(asked, min(left, self._next_seconds))) is not None:
                    return answered
            answered = await self._answered(asked, max(0.0, ends - loop.time()) + self._next_seconds)
        finally:
            for call in asked:
                call.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if answered is None:
            raise AckTimeoutError(f"nothing was acknowledged within {timeout:g} s")
        return answered

    def _in_order(self, *, beats: bool) -> list[str]:
        asked = [event for event in QUESTIONS if beats or event != HEARTBEAT]
        known = [event for event in asked if self._facts.acks(event) is True]
        unknown = [event for event in asked if self._facts.acks(event) is None]
        # Where none is ever acknowledged all are asked again: a platform may be rebuilt.
        return [*known, *unknown] or asked

    async def _answered(self, asked: Mapping[asyncio.Task[None], str], seconds: float) -> str | None:
        """The first of the questions that is answered within ``seconds``; None when none is.

        Raises:
            ConnectionLostError: the connection was lost.
        """
        loop = asyncio.get_running_loop()
        ends, pending = loop.time() + seconds, {call for call in asked if not call.done()}
        while pending:
            done, pending = await asyncio.wait(
                pending, timeout=max(0.0, ends - loop.time()), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return None
            for call in done:
                with suppress(AckTimeoutError):
                    call.result()
                    self._learn(asked[call], asked.values())
                    return asked[call]
        return None

    def _learn(self, answered: str, asked: Iterable[str]) -> None:
        """Those that were asked before the one that was answered, and were not: the platform lives and is silent."""
        for event in asked:
            if event == answered:
                return
            self._facts.unanswered(event)
