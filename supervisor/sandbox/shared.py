"""What every part of one sandbox shares."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from supervisor.sandbox.config import SandboxConfig
from supervisor.sandbox.sessions import Rooms
from supervisor.sandbox.state import PlatformState
from supervisor.sandbox.switchboard import Faults
from supervisor.sandbox.tokens import TokenMint


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


@dataclass(frozen=True, slots=True)
class Shared:
    """Settings, state and switches of one sandbox."""

    config: SandboxConfig
    tokens: TokenMint
    faults: Faults
    state: PlatformState = field(default_factory=PlatformState)
    rooms: Rooms = field(default_factory=Rooms)
    timers: Timers = field(default_factory=Timers)
