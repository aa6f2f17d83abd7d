"""People who keep talking, on a sandbox with a real fleet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from supervisor.sandbox.people import SAYINGS, keep_talking
from tests.support.stack import stack


async def test_people_talk_to_the_agents_that_are_online_and_get_answers(
    tmp_path: Path,
) -> None:
    async with stack(tmp_path) as fleet:
        spoken_to = [await fleet.add(number, "echo") for number in (1, 2)]
        fleet.sandbox.add_agent("c" * 24, "x", name="never online")
        talking = asyncio.create_task(keep_talking(fleet.sandbox, 3, pause_seconds=(0.0, 0.02)))
        try:
            await fleet.online(2)
            talks = [fleet.sandbox.conversation_of(agent) for agent in spoken_to]

            def answered() -> bool:
                said = [fleet.sandbox.messages(talk) for talk in talks]
                return all(sum(message.sender_kind == "agent" for message in talk) >= 10 for talk in said)

            await fleet.sandbox.wait_until(answered, timeout=20)
        finally:
            talking.cancel()
        people = {
            message.sender_id: message.content
            for talk in talks
            for message in fleet.sandbox.messages(talk)
            if message.sender_kind == "user"
        }
        assert len(people) == 3
        assert set(people.values()) <= set(SAYINGS)
        assert not fleet.sandbox.messages(fleet.sandbox.conversation_of("c" * 24))
