"""What a new connection makes good: conversations are joined again, and what was missed in them is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from supervisor.messages.backfill import Backfill
from supervisor.messages.participation import Participation
from supervisor.messages.roster import Roster, is_joined
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.platform.joins import Joins, JoinTimes, Late

#: So many conversations, the most recently active ones, are joined again before an agent counts as online.
REJOIN_LIMIT = 512


#: Opens a connection, and tells it before it is proven.
Register = Callable[[Callable[[Connection], None]], Awaitable[Connection]]


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
        roster: Roster,
        ack_seconds: float,
        *,
        rejoin_limit: int = REJOIN_LIMIT,
    ) -> None:
        self._scope = scope
        self._participation = participation
        self._conversations = participation.conversations
        self._backfill = backfill
        self._roster = roster
        self._ack_seconds = ack_seconds
        self._rejoin_limit = rejoin_limit
        self._warned = False
        self._joining: Sequence[str] = ()
        # While another process answers for the agent: what was joined late, when its owner may not have been there any
        # more. None: the agent is this process's own.
        self._late: list[str] | None = None

    async def connect(self, register: Register) -> Connection:
        """Have a connection opened and registered; ask for what was said while there was none.

        Args:
            register: opens the connection; nothing of it is left open where it raises. Tells the connection as soon as
                the namespace is joined.

        Raises:
            ConnectionLostError: the connection was lost meanwhile; it is closed. Otherwise as ``register``.
        """
        self._late = None
        another = self._participation.connection
        if another is not None and another.connected:
            return await self._connect_beside(another, register)
        waiting_conversations = self._backfill.begin()
        # From then on it brings messages: its proof and its joins may take longer than these may wait.
        connection = await register(self._backfill.holds.count)
        try:
            await self._join_home(connection)
            joining = await self._rejoin(connection)
        except BaseException:
            await connection.close()
            raise
        self._roster.follow(connection, waiting_conversations, joining)
        return connection

    async def stand_by(self, register: Register) -> Connection:
        """As :meth:`connect`, for an agent that another process answers for; :meth:`go_on` follows once it does not."""
        self._late = []
        connection = await register(lambda _: None)
        try:
            self._joining = await self._rejoin(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    def go_on(self, connection: Connection, *, missed: bool) -> None:
        """What :meth:`stand_by` connected is the agent's own now.

        Args:
            missed: whether something may have been, before it was connected.
        """
        waiting = self._backfill.begin() if missed else []
        self._backfill.holds.count(connection)
        doubtful, self._late = self._late or [], None
        if (home := connection.conversation_id) is not None:
            connection.record_member(home, self._scope.clock.monotonic())
            if missed and home not in self._conversations:
                # Its owner died in its first moments, and had not written it down.
                doubtful.append(home)
        self._backfill.hold_incomplete(doubtful)
        self._roster.follow(connection, [*waiting, *doubtful], self._joining)

    async def _connect_beside(self, another: Connection, register: Register) -> Connection:
        """As :meth:`connect`, while another connection is open: as long as it is, nothing can be missed.

        The new one joins at once, so that it is in the conversations when the other goes, and so that these joins prove
        it. Where the other goes first, the messages of what may have been missed wait from that moment on.
        """
        gap = _Gap(self, another)
        joins: list[asyncio.Task[list[str]]] = []

        def opened(connection: Connection) -> None:
            self._backfill.holds.count(connection)
            joins.append(asyncio.create_task(self._rejoin(connection), name=f"joins {self._scope.agent_id}"))

        connection: Connection | None = None
        try:
            connection = await register(opened)
            await self._join_home(connection)
            # Those of a way that led nowhere have ended with it.
            await asyncio.gather(*joins, return_exceptions=True)
            joining = joins[-1].result()
        except BaseException:
            for task in joins:
                task.cancel()
            await asyncio.gather(*joins, return_exceptions=True)
            if connection is not None:
                await connection.close()
            gap.end()
            raise
        self._roster.follow(connection, gap.end(), joining)
        return connection

    def begin_gap(self) -> list[str]:
        """The connection went away just now: hold what comes from now on in conversations that may have missed some."""
        self.lost()
        return self._backfill.begin()

    def lost(self) -> None:
        """The agent's connection went away just now: messages may be missed from here on."""
        self._roster.lost()
        self._backfill.lost()

    def stop(self) -> None:
        """The agent stops: nothing waits for what is missing any more."""
        self._backfill.stop()

    def missed(self, connection: Connection) -> None:
        """Ask what was missed: another connection was thought to be there, and had died silently."""
        self._backfill.lost()
        if waiting_conversations := self._backfill.begin():
            backfill = self._backfill.run(waiting_conversations, partial(is_joined, connection))
            connection.start_task(backfill, "backfill")

    async def _join_home(self, connection: Connection) -> None:
        """The platform has put the agent into one conversation by itself; after a gap it is asked about like others."""
        conversation_id = connection.conversation_id
        if conversation_id is not None:
            connection.record_member(conversation_id, self._scope.clock.monotonic())
            if conversation_id in self._conversations:
                return
            if since := self._roster.covered_until:
                # Forgotten, for it was quiet for long; what was said since the agent was last there is for it.
                self._backfill.hold_incomplete([conversation_id])
                await self._conversations.found(conversation_id, since)
            else:
                await self._conversations.joined(conversation_id)

    async def _rejoin(self, connection: Connection) -> list[str]:
        """Join the known conversations that the platform has not put the agent back into; those that are tried.

        Some generations do so with one, which the agent's own presence names, and some with none
        (docs/protocol.md#3-acceptance). What is past the limit is joined in the background. So is what only the
        connection before is in, which closes no sooner.

        Raises:
            ConnectionLostError: the connection was lost meanwhile.
        """
        another = self._participation.connection
        found = another.members if another else self._backfill.holds
        known = dict.fromkeys([*reversed(self._conversations), *found])
        known.pop(connection.conversation_id or "", None)
        conversations = list(known)
        limit = self._rejoin_limit
        if len(conversations) > limit and not self._warned:
            self._scope.log.info("too_many_conversations", known=len(conversations), joined=limit)
        self._warned = len(conversations) > limit
        joins = Joins(
            connection,
            clock=self._scope.clock,
            times=JoinTimes(self._ack_seconds),
            is_known=lambda conversation_id: not self._conversations.has_left(conversation_id),
            forget=self._conversations.left,
            late=Late(partial(self._joining_late, connection), partial(self._joined_late, connection)),
            log=self._scope.log,
        )
        await joins.run(conversations[:limit], later=conversations[limit:])
        return conversations

    def _joining_late(self, connection: Connection, conversations: Sequence[str]) -> None:
        """What is said as soon as the agent is in a conversation comes after what was said before."""
        if self._late is not None:
            return
        self._backfill.hold_incomplete(one for one in conversations if not is_joined(connection, one))

    async def _joined_late(self, connection: Connection, joined: Sequence[str], missing: Sequence[str]) -> None:
        if self._late is not None:
            self._late += joined
            return
        self._backfill.holds.end(missing)
        await self._backfill.run(joined, partial(is_joined, connection))


class _Gap:
    """What may be missed once ``first`` is gone, while a second connection is being made."""

    def __init__(self, catch_up: CatchUp, first: Connection) -> None:
        self._catch_up = catch_up
        self._first = first
        self._waiting: list[str] | None = None
        first.closed.add_done_callback(self._begin)

    def _begin(self, _closed: object) -> None:
        if self._waiting is None:
            self._waiting = self._catch_up.begin_gap()

    def end(self) -> list[str]:
        """The conversations whose messages wait, for whoever ends that."""
        self._first.closed.remove_done_callback(self._begin)
        if self._first.closed.done():
            self._begin(None)
        waiting, self._waiting = self._waiting or [], []
        return waiting
