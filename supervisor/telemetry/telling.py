"""What a follower of events is told: some that were, then what comes, each with the position to go on after."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from supervisor.telemetry.events import Batch, Event, Events, Wanted

#: After so long without an event a follower is told that there is nothing new.
HEARTBEAT_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a follower gets at once; without anything in it, a sign of life.

    Args:
        events: each with the position after it.
        missed: how many came and were gone before they could be told, wanted or not.
        silent: the replica of which nothing comes any more.
        why: why it is silent.
    """

    events: tuple[tuple[str, Event], ...] = ()
    missed: int = 0
    silent: int | None = None
    why: str = ""


async def tell(
    events: Events,
    wanted: Wanted,
    *,
    last: int,
    follow: bool,
    after: int | None,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> AsyncGenerator[tuple[Batch, int]]:
    """What was and what comes, each time with the number up to which that is all.

    Args:
        last: begin with so many events that were, unless ``after`` says where.
        follow: go on with what comes, until the events are closed.
        after: the number of the last event that is known; None for a follower that is new.
        heartbeat_seconds: after so long without anything new it tells that.
    """
    if after is None:
        # From here on, so that an event during the first ones is neither told twice nor left out.
        after = events.newest
        yield Batch([event for event in events.last(last, wanted) if event.number <= after]), after
    if not follow:
        return
    after = min(after, events.newest)
    async with aclosing(events.follow(after, wanted, heartbeat_seconds=heartbeat_seconds)) as news:
        async for batch in news:
            after = batch.events[-1].number if batch.events else after
            yield batch, after


async def tell_alone(
    events: Events, wanted: Wanted, *, last: int, follow: bool, after: str | None
) -> AsyncGenerator[Told]:
    """The same of one process alone.

    Args:
        after: the position that a follower was told last, perhaps by a process that was before this one.
    """
    run, _, number = (after or "").partition("-")
    known: int | None = None
    if number.isdecimal() and len(number) <= 18:
        # Another process numbers anew: all of its events are new to the follower.
        known = int(number) if run == events.run else 0
    async with aclosing(tell(events, wanted, last=last, follow=follow, after=known)) as news:
        begins = known is None
        async for batch, _ in news:
            if batch.events or not begins:
                yield Told(tuple((f"{events.run}-{event.number}", event) for event in batch.events), batch.missed)
            begins = False
