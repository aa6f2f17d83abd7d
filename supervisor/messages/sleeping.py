"""Whether an agent sleeps: the platform may put one to sleep (docs/protocol.md#85-commands-from-the-platform)."""

from __future__ import annotations

import math
import time

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentLife, Sleep
from supervisor.core.tasks import TaskSet
from supervisor.messages.scope import Scope
from supervisor.messages.settling import until_journaled


class Sleeping:
    """One agent's sleep; kept over a restart. The row is not touched: whoever pauses an agent means something else.

    A sleep ends by a command of the platform's, by its time, or when a person resumes the agent.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._tasks = TaskSet()
        self._sleep: Sleep | None = None
        self._written: Sleep | None = None
        # When a sleep that has an end is over, in monotonic seconds.
        self._ends = math.inf

    @property
    def current(self) -> Sleep | None:
        """The sleep; None while the agent is awake. One whose time is over ends here."""
        sleep = self._sleep
        if sleep is not None and sleep.until is not None and self._scope.clock.monotonic() >= self._ends:
            self.end("its time is over")
        return self._sleep

    @property
    def shown(self) -> str:
        """The sleep in words for people; empty while the agent is awake."""
        sleep = self.current
        if sleep is None:
            return ""
        end = "it is woken" if sleep.until is None else _written(sleep.until)
        return f"asleep until {end}" + (f": {sleep.reason}" if sleep.reason else "")

    def restore(self, life: AgentLife) -> None:
        """Take up a sleep that an earlier process left."""
        self._sleep = self._written = life.sleep
        self._set_end(self._sleep)
        if self.current is not None:
            self._scope.log.info("agent_asleep", reason=self.shown)

    def begin(self, reason: str, until: float | None) -> None:
        """Sleep from now on.

        Args:
            reason: for people, without secrets.
            until: when it ends by itself, in seconds since the epoch; None: when the agent is woken.
        """
        self._sleep = Sleep(self._scope.clock.now(), until, reason)
        self._set_end(self._sleep)
        self._scope.log.info("agent_asleep", reason=self.shown)
        self._write_soon()

    def _set_end(self, sleep: Sleep | None) -> None:
        """Count the rest of a sleep by the monotonic clock: no more than all of it, where the wall clock was set."""
        if sleep is not None and sleep.until is not None:
            left = min(sleep.until - self._scope.clock.now(), sleep.until - sleep.since)
            self._ends = self._scope.clock.monotonic() + left

    def end(self, reason: str) -> bool:
        """Wake up; whether the agent slept."""
        if self._sleep is None:
            return False
        self._sleep = None
        self._scope.log.info("agent_awake", reason=reason)
        self._write_soon()
        return True

    def _write_soon(self) -> None:
        if not len(self._tasks):
            self._tasks.spawn(self._write(), f"sleep {self._scope.agent_id}")

    async def _write(self) -> None:
        """Remember the sleep as it is, until that is done: an agent that forgets it would answer after a restart."""
        while self._sleep is not self._written:
            self._written = await until_journaled(self._scope, self._note)

    async def _note(self) -> Sleep | None:
        sleep = self._sleep
        await self._scope.journal.lives.record_sleep(self._scope.agent_id, sleep)
        return sleep

    async def close(self) -> None:
        """Stop at once, after what is not remembered yet was written, where the registry takes it."""
        await self._tasks.cancel()
        if self._sleep is not self._written:
            try:
                await self._note()
            except RegistryError as error:
                self._scope.log.warning("sleep_not_noted", reason=str(error))


def _written(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
