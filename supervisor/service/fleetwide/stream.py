"""The events of all replicas as one stream, whose position says how far each of them was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from supervisor.core.errors import SupervisorError
from supervisor.core.replicas import Replica
from supervisor.core.tasks import cancel_all
from supervisor.management.selection import Selector
from supervisor.service.control import Control
from supervisor.service.fleetwide.others import Others
from supervisor.service.fleetwide.questions import Follow, Happened, event_of, only
from supervisor.telemetry.events import Event, Wanted, happened_at
from supervisor.telemetry.telling import HEARTBEAT_SECONDS, Told, tell

#: How often one looks for replicas that are new, and for those that were silent.
LOOK_SECONDS: Final = 1.0
#: What waits for whoever follows, in pieces; a replica that has more to tell waits.
_WAITING: Final = 64


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one replica told: up to which number that is all; or, once it tells nothing any more, why."""

    replica: int
    up_to: int = 0
    missed: int = 0
    events: Sequence[Event] = ()
    ended: bool = False
    why: str = ""


def read_position(text: str | None) -> dict[int, int] | None:
    """The numbers up to which each replica was told, from ``7:123,8:55``; None for a follower that is new."""
    found: dict[int, int] = {}
    for part in (text or "").split(","):
        replica, _, number = part.partition(":")
        if not (replica.isdecimal() and number.isdecimal() and len(part) <= 38):
            return None
        found[int(replica)] = int(number)
    return found


def write_position(told: dict[int, int]) -> str:
    """The same as text."""
    return ",".join(f"{replica}:{number}" for replica, number in sorted(told.items()))


async def follow_all(
    own: Control, others: Others, wanted: Wanted, selected: Selector, *, last: int, follow: bool, after: str | None
) -> AsyncGenerator[Told]:
    """What happened and happens on all replicas, each event once.

    Args:
        last: begin with so many events that were, unless ``after`` says where.
        after: the position that a follower was told last. Of a replica that is not in it, all is new.
    """
    stream, position = _Stream(own, others, wanted, selected), read_position(after)
    if position is None:
        for told in await stream.begin(last):
            yield told
    else:
        stream.told = position
    if not follow:
        return
    try:
        async with aclosing(stream.go_on()) as going_on:
            async for told in going_on:
                yield told
    finally:
        await stream.close()


class _Stream:
    """One follower of all replicas.

    Attributes:
        told: the number up to which each replica was told.
    """

    def __init__(self, own: Control, others: Others, wanted: Wanted, selected: Selector) -> None:
        self._own = own
        self._others = others
        self._wanted = wanted
        self._selected = selected
        self._me = others.my_id or 0
        self._pieces: asyncio.Queue[_Piece] = asyncio.Queue(_WAITING)
        self._following: dict[int, asyncio.Task[None]] = {}
        self.told: dict[int, int] = {}
        # Replicas that did not say where they are at the beginning: what comes of them is new from their return on.
        self._unplaced: set[int] = set()
        self._silent: set[int] = set()
        self._gone: set[int] = set()

    async def begin(self, last: int) -> list[Told]:
        """The newest events of all that there were, and which replicas did not tell theirs."""
        found: list[tuple[int, Event]] = []
        silent: list[Told] = []
        async with aclosing(self._of_own(last=last, follow=False, after=None)) as own:
            pieces = [piece async for piece in own]
        question = self._question(last=last, follow=False, after=None)
        for replica, answer in await self._others.ask_all(Happened, "events", question):
            if isinstance(answer, SupervisorError):
                self._unplaced.add(replica.id)
                silent += self._falls_silent(replica.id, str(answer))
            else:
                pieces += [_piece(replica.id, one) for one in answer]
        for piece in pieces:
            found += [(piece.replica, event) for event in piece.events]
            self.told[piece.replica] = piece.up_to
        found.sort(key=lambda one: happened_at(one[1]))
        shown = found[-last:] if last else []
        return [*([Told(tuple(self._placed(shown)))] if shown else []), *silent]

    def _placed(self, shown: Sequence[tuple[int, Event]]) -> Iterator[tuple[str, Event]]:
        """The first events, each with the position after it: of each replica, what is not shown yet is to come."""
        up_to = dict(self.told)
        for replica, event in reversed(shown):
            up_to[replica] = event.number - 1
        for replica, event in shown:
            up_to[replica] = event.number
            yield write_position(up_to), event

    async def go_on(self) -> AsyncGenerator[Told]:
        """What comes, until the events of this replica end."""
        clock = asyncio.get_running_loop().time
        told_at = looked_at = clock()
        for told in await self._look():
            yield told
        while True:
            if clock() - looked_at >= LOOK_SECONDS:
                looked_at = clock()
                for told in await self._look():
                    yield told
            piece = await self._next()
            if piece is not None and piece.ended and piece.replica == self._me:
                return
            found = self._take(piece) if piece is not None else []
            if not found and clock() - told_at >= HEARTBEAT_SECONDS:
                found = [Told()]
            for told in found:
                told_at = clock()
                yield told

    async def close(self) -> None:
        """Follow nobody any more."""
        await cancel_all(self._following.values())

    async def _next(self) -> _Piece | None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._pieces.get()
        except TimeoutError:
            return None

    def _take(self, piece: _Piece) -> list[Told]:
        """What a piece is for whoever follows."""
        if piece.ended:
            self._following.pop(piece.replica, None)
            return self._falls_silent(piece.replica, piece.why)
        self._silent.discard(piece.replica)
        events = []
        for event in piece.events:
            self.told[piece.replica] = event.number
            events.append((write_position(self.told), event))
        self.told[piece.replica] = piece.up_to
        return [Told(tuple(events), piece.missed)] if events or piece.missed else []

    def _falls_silent(self, replica: int, why: str) -> list[Told]:
        if replica in self._silent:
            return []
        self._silent.add(replica)
        return [Told(silent=replica, why=why)]

    async def _look(self) -> list[Told]:
        """Follow whoever is not followed yet, and forget those that are gone; which these are."""
        living = {one.id: one for one in await self._others.replicas()}
        if self._me not in self._following:
            self._follow(self._me, self._of_own(last=0, follow=True, after=self._after(self._me)))
        for number, replica in living.items():
            if number not in self._following:
                self._follow(number, self._of_other(replica))
        gone = [number for number in {*self.told, *self._following} if number not in living and number != self._me]
        await cancel_all([self._following.pop(number) for number in gone if number in self._following])
        told = []
        for number in gone:
            # What it said last may still wait here, and come after this.
            told += self._falls_silent(number, f"replica {number} has ended") if number not in self._gone else []
            self.told.pop(number, None)
            self._silent.discard(number)
        self._gone = (self._gone | set(gone)) - living.keys()
        return told

    def _follow(self, replica: int, pieces: AsyncGenerator[_Piece]) -> None:
        self._following[replica] = asyncio.create_task(self._pump(replica, pieces), name=f"events of replica {replica}")

    async def _pump(self, replica: int, pieces: AsyncGenerator[_Piece]) -> None:
        why = f"replica {replica} has ended"
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await self._pieces.put(piece)
        except SupervisorError as error:
            why = str(error)
        await self._pieces.put(_Piece(replica, why=why, ended=True))

    def _after(self, replica: int) -> int | None:
        return self.told.get(replica, None if replica in self._unplaced else 0)

    async def _of_own(self, *, last: int, follow: bool, after: int | None) -> AsyncGenerator[_Piece]:
        wanted = only(self._own, self._wanted, self._selected)
        async with aclosing(tell(self._own.events, wanted, last=last, follow=follow, after=after)) as told:
            async for batch, up_to in told:
                yield _Piece(self._me, up_to, batch.missed, batch.events)

    async def _of_other(self, replica: Replica) -> AsyncGenerator[_Piece]:
        question = self._question(last=0, follow=True, after=self._after(replica.id))
        async with aclosing(self._others.follow(replica, Happened, "events", question)) as told:
            async for answer in told:
                yield _piece(replica.id, answer)

    def _question(self, *, last: int, follow: bool, after: int | None) -> Follow:
        return Follow.of(self._wanted, self._selected, last=last, follow=follow, after=after)


def _piece(replica: int, told: Happened) -> _Piece:
    return _Piece(replica, told.up_to, told.missed, [event_of(one) for one in told.events])
