"""What a new connection makes good: conversations are joined again, and what was missed in them is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from supervisor.messages.backfill import Backfill
from supervisor.messages.participation import Participation
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.platform.joins import Joins, JoinTimes

#: So many conversations, the most recently active ones, are joined again on platforms that forget them.
REJOIN_LIMIT = 512


def _is_joined(connection: Connection, conversation_id: str) -> bool:
    return connection.member_since(conversation_id) is not None


class CatchUp:
    """One agent's way from a gap without connection to where nothing is missing.

    Args:
        ack_seconds: how long the platform's acknowledgements may take.
    """

    def __init__(
        self,
        scope: Scope,
        participation: Participation,
        backfill: Backfill,
        ack_seconds: float,
        *,
        rejoin_limit: int = REJOIN_LIMIT,
    ) -> None:
        self._scope = scope
        self._participation = participation
        self._conversations = participation.conversations
        self._backfill = backfill
        self._ack_seconds = ack_seconds
        self._rejoin_limit = rejoin_limit
        self._warned = False

    async def connect(self, register: Callable[[], Awaitable[Connection]]) -> Connection:
        """Have a connection opened and registered; ask for what was said while there was none.

        Args:
            register: opens the connection; nothing of it is left open where it raises.

        Raises:
            ConnectionLostError: the connection was lost meanwhile; it is closed. Otherwise as ``register``.
        """
        was_connected = self._is_connected_elsewhere()
        waiting_conversations = [] if was_connected else self._backfill.begin()
        try:
            connection = await register()
            try:
                if was_connected:
                    waiting_conversations = self._begin_gap()
                await self._join_home(connection)
                await self._rejoin(connection)
                if was_connected and not waiting_conversations:
                    waiting_conversations = self._begin_gap()
            except BaseException:
                await connection.close()
                raise
        except BaseException:
            self._backfill.give_up(waiting_conversations)
            raise
        if waiting_conversations:
            self._fill(waiting_conversations, connection)
        return connection

    def lost(self) -> None:
        """The agent's connection went away just now: messages may be missed from here on."""
        self._backfill.lost()

    def missed(self, connection: Connection) -> None:
        """Ask what was missed: another connection was thought to be there, and had died silently."""
        self._backfill.lost()
        if waiting_conversations := self._backfill.begin():
            self._fill(waiting_conversations, connection)

    def _fill(self, waiting_conversations: list[str], connection: Connection) -> None:
        connection.start_task(self._backfill.run(waiting_conversations, partial(_is_joined, connection)), "backfill")

    def _is_connected_elsewhere(self) -> bool:
        """Whether another connection of the agent is open: while one is, nothing can be missed."""
        another = self._participation.connection
        return another is not None and another.connected

    def _begin_gap(self) -> list[str]:
        """Hold what comes from now on, if the other connection went away while this one was made.

        Where the platform allows an agent one socket, the new one puts out the old one.
        """
        if self._is_connected_elsewhere():
            return []
        self._backfill.lost()
        return self._backfill.begin()

    async def _join_home(self, connection: Connection) -> None:
        """The platform has put the agent into one conversation by itself; after a gap it is asked about like others."""
        conversation_id = connection.conversation_id
        if conversation_id is not None:
            connection.record_member(conversation_id, self._scope.clock.monotonic())
            if conversation_id not in self._conversations:
                await self._conversations.joined(conversation_id)

    async def _rejoin(self, connection: Connection) -> None:
        """Join the known conversations that the platform has not put the agent back into.

        Some generations do so with one, which the agent's own presence names, and some with none
        (docs/protocol.md#3-acceptance).

        Raises:
            ConnectionLostError: the connection was lost meanwhile.
        """
        known = [one for one in reversed(self._conversations) if one != connection.conversation_id]
        limit = self._rejoin_limit
        if len(known) > limit and not self._warned:
            self._scope.log.warning("too_many_conversations", known=len(known), joined=limit)
        self._warned = len(known) > limit
        joins = Joins(
            connection,
            clock=self._scope.clock,
            times=JoinTimes(self._ack_seconds),
            is_known=self._conversations.__contains__,
            forget=self._conversations.left,
            on_late=partial(self._backfill.run, is_joined=partial(_is_joined, connection)),
            log=self._scope.log,
        )
        await joins.run(known[:limit])
