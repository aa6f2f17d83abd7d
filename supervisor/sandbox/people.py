"""People who keep talking to the agents that are online: traffic to look at in dashboards, without a hand on a key."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from supervisor.sandbox.gateways.validation import RefusedError

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox

#: What they say and how often of each hundred times; the tour agent knows what to make of each.
SAYINGS: Final = {
    "hello": 20,
    "6 * 7": 20,
    "what time is it?": 15,
    "(17 + 4) / 3": 10,
    "where do I find my invoice?": 18,
    "attach": 5,
    "history": 4,
    "slow 2": 5,
    "error": 2,
    "fail": 1,
}
#: How long a person thinks before the next message, in seconds: from, to.
PAUSE_SECONDS: Final = (0.5, 4.0)
#: How long one waits for an answer before saying something else.
PATIENCE_SECONDS: Final = 30.0


async def keep_talking(sandbox: Sandbox, people: int, pause_seconds: tuple[float, float] = PAUSE_SECONDS) -> None:
    """Have so many people talk, each to one agent after the other, until cancelled.

    Args:
        pause_seconds: How long a person thinks before the next message: from, to.
    """
    async with asyncio.TaskGroup() as group:
        for _ in range(people):
            group.create_task(_talk(sandbox, pause_seconds))


async def _talk(sandbox: Sandbox, pause_seconds: tuple[float, float]) -> None:
    user = await sandbox.user()
    chance = random.Random()  # noqa: S311  nothing to guess
    sayings, weights = list(SAYINGS), list(SAYINGS.values())
    while True:
        await asyncio.sleep(chance.uniform(*pause_seconds))
        if not (online := sorted(agent_id for agent_id in sandbox.agents if sandbox.is_online(agent_id))):
            continue
        # What came so far is of no interest, and this may go on for days.
        user.received.clear()
        try:
            conversation = await user.open(chance.choice(online))
            said = await user.say(conversation, chance.choices(sayings, weights)[0])
            await user.wait_for_reply(conversation, after=said, timeout=PATIENCE_SECONDS)
        except (RefusedError, TimeoutError):
            # The platform is told to fail now and then, and so are agents: people try again.
            continue
