"""The ring of events: bounded, read at each follower's own pace, and honest about what was gone by then."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from supervisor.telemetry.events import Batch, Event, Events, Kind, Wanted

ALL = Wanted()
STATES: tuple[Kind, ...] = ("state",)
LONG = 60.0


def numbers(events: list[Event]) -> list[int]:
    return [event.number for event in events]


async def take(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(10):
        return await anext(batches)


def test_the_ring_is_bounded_in_number_and_bytes() -> None:
    events = Events(max_events=3)
    for number in range(5):
        events.publish("log", "a", {"n": number})
    assert numbers(events.last(10, ALL)) == [3, 4, 5]
    assert events.newest == 5
    small = Events(max_bytes=1000)
    for _ in range(100):
        small.publish("log", "a", {"text": "x" * 100})
    assert 0 < small.bytes_held <= 1000
    assert len(small.last(100, ALL)) < 10


def test_only_what_is_wanted_is_given() -> None:
    events = Events()
    for agent, kind in (("a", "log"), ("b", "log"), ("a", "state"), ("", "log")):
        events.publish(kind, agent, {})  # type: ignore[arg-type]
    assert numbers(events.last(10, Wanted("a"))) == [1, 3]
    assert numbers(events.last(10, Wanted("a", STATES))) == [3]
    assert numbers(events.last(2, ALL)) == [3, 4], "the newest of them, oldest first"
    assert events.last(0, ALL) == []


def test_what_is_wanted_may_depend_on_what_an_event_says() -> None:
    events = Events()
    lines: list[tuple[Kind, str, dict[str, Any]]] = [
        ("log", "a", {"timestamp": "2026-01-31T00:00:00.000Z", "level": "debug", "event": "polled"}),
        (
            "log",
            "a",
            {"timestamp": "2026-01-31T00:01:00.000Z", "level": "error", "event": "refused", "reason": "No Key"},
        ),
        ("state", "b", {"state": "backoff", "since": 1_769_817_600.0}),
        ("log", "b", {"timestamp": "not a time", "level": "loud", "event": "odd"}),
    ]
    for kind, agent, fields in lines:
        events.publish(kind, agent, fields)

    def found(**asked: Any) -> list[int]:
        return numbers(events.last(10, Wanted(**asked)))

    assert found(level="debug") == [1, 2, 3, 4]
    assert found(level="info") == [2, 3, 4], "a change of state is one, and so is what has no level of ours"
    assert found(level="error") == [2, 4]
    assert found(text="no key") == [2]
    assert found(text="state=BACKOFF") == [3]
    assert found(text="nothing of it") == []
    assert found(since=1_769_817_600.0) == [1, 2, 3]
    assert found(since=1_769_817_601.0) == [2]
    assert found(agents="b".__eq__) == [3, 4]
    assert found(agent="a", level="error", since=1.0, text="refused") == [2]


def test_what_cannot_be_kept_is_said() -> None:
    events = Events()
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for unfit in (deep, "y" * 100_000, "\ud800"):
        fields = {"event": "rows", "timestamp": "2026-01-31T00:00:00.000Z", "since": 1.5, "x": unfit}
        events.publish("log", "a", fields)
    events.publish(
        "state", "a", {"state": "backoff", "was": "online", "since": 2, "reason": "odd \ud800" + "z" * 100_000}
    )
    events.publish("log", "a", {"x": object, "y": {1, 2}})
    *lines, state, whole = [json.loads(event.data) for event in events.last(10, ALL)]
    for line in lines:
        told = {"agent": "a", "event": "rows", "timestamp": "2026-01-31T00:00:00.000Z", "since": 1.5}
        assert line == told | {"not_kept": "too large, or no JSON"}
    assert (state["state"], state["was"], state["since"]) == ("backoff", "online", 2)
    assert state["reason"].startswith("odd ")
    assert len(state["reason"]) <= 200
    assert whole["y"] == [1, 2]


async def test_nobody_is_woken_where_nobody_follows() -> None:
    events, loop = Events(), asyncio.get_running_loop()
    woken: list[object] = []
    call_soon = loop.call_soon_threadsafe
    loop.call_soon_threadsafe = lambda *args, **kwargs: woken.append(args) or call_soon(*args, **kwargs)  # type: ignore[method-assign, func-returns-value]
    try:
        async with aclosing(events.follow(0, ALL, heartbeat_seconds=LONG)) as batches:
            events.publish("log", "a", {})
            assert numbers((await take(batches)).events) == [1]
            waiting = asyncio.ensure_future(take(batches))
            await asyncio.sleep(0)
            events.publish("log", "a", {})
            assert numbers((await waiting).events) == [2]
            assert woken
        woken.clear()
        for _ in range(3):
            events.publish("log", "a", {})
            await asyncio.sleep(0)
        assert not woken
    finally:
        loop.call_soon_threadsafe = call_soon  # type: ignore[method-assign]


async def test_a_follower_gets_what_was_missed_and_what_comes() -> None:
    events = Events(max_events=4)
    for number in range(6):
        events.publish("log", "a" if number % 2 else "b", {"n": number})
    async with aclosing(events.follow(1, Wanted("a"), heartbeat_seconds=LONG)) as batches:
        first = await take(batches)
        assert (numbers(first.events), first.missed) == ([4, 6], 1)
        waiting = asyncio.ensure_future(take(batches))
        await asyncio.sleep(0)
        events.publish("log", "b", {})
        # From another thread, as a handler's lines come.
        thread = threading.Thread(target=events.publish, args=("log", "a", {"late": True}))
        thread.start()
        came = await waiting
        thread.join()
        assert (numbers(came.events), came.missed) == ([8], 0)
        # One that is slow misses some, and is told how many.
        for _ in range(7):
            events.publish("log", "a", {})
        late = await take(batches)
        assert (numbers(late.events), late.missed) == ([12, 13, 14, 15], 3)


async def test_nothing_new_is_a_beat_and_closing_ends_it() -> None:
    events = Events()
    batches = events.follow(0, ALL, heartbeat_seconds=0.01)
    assert await take(batches) == Batch([])
    events.publish("log", "a", {})
    events.close()
    assert numbers((await take(batches)).events) == [1]
    assert [batch async for batch in batches] == []


async def test_many_are_given_in_several_batches() -> None:
    events = Events()
    for _ in range(450):
        events.publish("log", "a", {})
    events.close()
    got = [batch async for batch in events.follow(0, ALL, heartbeat_seconds=LONG)]
    assert [len(batch.events) for batch in got] == [200, 200, 50]
    assert [event.number for batch in got for event in batch.events] == list(range(1, 451))
