"""What an agent hears before it is this process's own: kept, and taken in once it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Final, Protocol

from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage
from supervisor.messages.heard import Heard, has_nameless, still_meant, without_pairs
from supervisor.messages.scope import Scope
from supervisor.messages.wanted import wanted
from supervisor.platform.connection import Connection
from supervisor.protocol import InboundMessage

#: So many events are kept, the newest: what came before them the agent's owner has heard as well.
KEPT: Final = 1_000
#: How long handing in may take.
HAND_IN_SECONDS: Final = 5.0


class GoOn(Protocol):
    """Has a connection followed by which the agent was only heard until now."""

    def __call__(self, connection: Connection, *, missed: bool) -> None:
        """Follow it; ``missed``: something may have been said before it was connected."""
        ...


class Standby:
    """One agent's time before it is this process's own.

    Args:
        restore: takes up what the journal has.
        receive: takes an event in.
        roles: whose messages are answered.

    Attributes:
        waits: whether another process answers for the agent, so that what it hears is kept.
    """

    def __init__(
        self,
        scope: Scope,
        restore: Callable[[], Awaitable[None]],
        go_on: GoOn,
        receive: Callable[[Connection, str, object], None],
        roles: Callable[[], Collection[str]],
    ) -> None:
        self._clock = scope.clock
        self._log = scope.log
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._restore = restore
        self._go_on = go_on
        self._receive = receive
        self._roles = roles
        self._heard: deque[Heard] | None = None
        # By a connection that was gone when the agent became this process's own; in its order.
        self._left: list[Heard] = []
        self._missed = False
        # The journal's newest message when the connection was in the conversations; None: it is in none yet.
        self._written_until: int | None = None

    @property
    def waits(self) -> bool:
        return self._heard is not None

    def begin(self) -> None:
        """Keep what is heard until :meth:`take_over`; nothing is answered."""
        self._heard = deque(maxlen=KEPT)

    async def joined(self) -> None:
        """What is said from now on is heard here as well as by the owner.

        Raises:
            RegistryError: the journal cannot be read.
        """
        newest = await self._journal.messages(agent_id=self._agent_id, limit=1)
        self._written_until = newest[0].id if newest else 0

    def keep(self, source: Connection, event: str, payload: object) -> None:
        """Keep an event."""
        if self._heard is not None:
            self._missed = self._missed or len(self._heard) == KEPT
            self._heard.append(Heard(source, event, payload))

    async def take_over(self, connection: Connection | None, *, missed: bool) -> None:
        """The agent is this process's from now on: take up what its owner left, then what was heard.

        Args:
            connection: by which it was heard; None: it is gone, and the next one looks for what was missed, among which
                :meth:`bring` puts what was heard.
            missed: whether its owner may not have heard what came before.

        Raises:
            RegistryError: the journal cannot be read; what was heard is kept.
        """
        await self._restore()
        if connection is None:
            self._left, self._heard = [*(self._heard or ())], None
            return
        written = await self._written()
        heard, self._heard = self._heard or (), None
        missed = missed or self._missed
        self._go_on(connection, missed=missed)
        for source, event, payload in without_pairs(still_meant(heard, owner_obeyed=not missed), written):
            self._receive(source, event, payload)

    def bring(self) -> None:
        """Take in the messages of connections that are gone; what may be missing before them holds them back by now."""
        left, self._left = self._left, []
        for one, _, _ in self._named(left):
            self._receive(*one)

    async def close(self) -> None:
        """Hand in what was heard, for the agent's owner may have died without it."""
        heard = self._left if self._heard is None else self._heard
        named = list(self._named(heard))
        heard.clear()
        if not named:
            return
        now = self._clock.now()
        adds = [self._journal.hand_in(self._agent_id, said, key=key, received_at=now) for _, key, said in named]
        try:
            async with asyncio.timeout(HAND_IN_SECONDS):
                await asyncio.gather(*adds)
        except (RegistryError, TimeoutError) as error:
            self._log.warning("messages_not_handed_in", heard=len(named), reason=str(error) or "the registry is slow")

    def _named(self, heard: Iterable[Heard]) -> Iterator[tuple[Heard, str, InboundMessage]]:
        """The messages that are to be answered, with their ids.

        Without an id nothing tells that the owner has it: that is left to the owner, and to the platform's history.
        """
        roles = self._roles()
        for one in heard:
            message = wanted(one.payload, self._agent_id, roles) if one.event == "message:new" else None
            if message is not None and message.id is not None:
                yield one, message.id, message

    async def _written(self) -> list[JournaledMessage]:
        """What the owner wrote since the agent was connected here, where it is needed."""
        if self._written_until is None or not has_nameless(self._heard or ()):
            return []
        newest = await self._journal.messages(agent_id=self._agent_id, limit=KEPT)
        return [row for row in newest if row.id > self._written_until]
