"""What every part of one sandbox shares."""

import asyncio
from collections.abc import Callable
from typing import Any

from supervisor.sandbox.world.bridge import Bridge
from supervisor.sandbox.world.config import SandboxConfig
from supervisor.sandbox.world.files import FileStore
from supervisor.sandbox.world.heartbeats import Heartbeats
from supervisor.sandbox.world.model import Model
from supervisor.sandbox.world.presence import PresenceSets
from supervisor.sandbox.world.sessions import Rooms
from supervisor.sandbox.world.state import Conversation, PlatformState
from supervisor.sandbox.world.switchboard import Faults
from supervisor.sandbox.world.tokens import TokenMint
from supervisor.sandbox.world.works import Works


class Timers:
    """Calls that are due later, all of which can be forgotten at once."""

    def __init__(self) -> None:
        self._due: set[asyncio.TimerHandle] = set()

    def later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call back after ``seconds``; at once when that is nothing."""
        if seconds <= 0:
            callback(*args)
            return

        def due() -> None:
            self._due.discard(timer)
            callback(*args)

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._due.add(timer)

    def forget(self) -> None:
        """Forget what is due: the platform went down."""
        for timer in self._due:
            timer.cancel()
        self._due.clear()


class Shared:
    """Settings, switches and state of one sandbox; built once, then passed to every part."""

    def __init__(self, config: SandboxConfig, faults: Faults) -> None:
        self.config = config
        self.faults = faults
        self.tokens = TokenMint(organisation_id=config.organisation_id)
        self.state = PlatformState()
        self.rooms = Rooms()
        self.timers = Timers()
        self.presence = PresenceSets(self.state.log, expire_seconds=config.forget_after_seconds, clock=config.clock)
        self.works = Works(self.state.log)
        self.heartbeats = Heartbeats(config.profile, self.state, self.works)
        self.bridge = Bridge(self)
        self.files = FileStore()
        self.model = Model()

    def gather(self, conversation: Conversation) -> bool:
        """Put an agent's sockets into its conversation; False where the platform does not find the agent."""
        sids = self.presence.sockets_of(conversation.agent_id)
        for session in self.rooms.with_sids(sids):
            self.rooms.enter(session, conversation.id)
        return bool(sids)
