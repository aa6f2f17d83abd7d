"""What the platform asks of an agent beside its conversations: works and reminders, commands, sleep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from supervisor.core.records import AgentLife
from supervisor.messages.commands import AgentActions
from supervisor.messages.inbox import Inbox
from supervisor.messages.orders import Orders, Reach
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.sleeping import Sleeping
from supervisor.messages.works import Works
from supervisor.platform.heartbeats import Pulse


class Duties:
    """One agent's duties.

    Args:
        stop_answer: cancels the answer that is being made in a conversation; whether there was one.

    Attributes:
        sleeping: whether the agent sleeps.
        pulse: what its heartbeats say, and what becomes of that which they bring.
        orders: takes ``agent:command``.
    """

    def __init__(
        self,
        profile: Profile,
        inbox: Inbox,
        outbox: Outbox,
        participation: Participation,
        actions: AgentActions,
        stop_answer: Callable[[str, int], Awaitable[bool]],
    ) -> None:
        self.sleeping = Sleeping(profile.scope)
        self._works = Works(profile.scope, inbox)
        self.pulse = Pulse(
            takes_tasks=lambda: profile.settings.work and self._works.open,
            working=lambda: inbox.waiting > 0,
            sleep=lambda: self.sleeping.current,
            on_task=self._works.take,
        )
        reach = Reach(inbox, outbox, participation, self.sleeping, self.pulse, stop_answer)
        self.orders = Orders(profile, actions, reach)

    def restore(self, life: AgentLife) -> None:
        """Take up what an earlier process left."""
        self.sleeping.restore(life)

    def resume(self) -> None:
        """A person wants the agent to go on: it wakes up, and asks for works again."""
        self.sleeping.end("resumed")
        self._works.resume()

    def renew(self) -> None:
        """The agent runs with another row or handler: it asks for works again."""
        self._works.resume()

    async def close(self) -> None:
        """Stop at once."""
        await self.orders.close()
        await self._works.close()
        await self.sleeping.close()
