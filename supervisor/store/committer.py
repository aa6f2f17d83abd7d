"""The journal's writer task: takes all operations that wait, commits them in one transaction, and repeats.

There is no timer: batches form by themselves while a commit is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.owners import own_context
from supervisor.core.tasks import cancel_all, is_cancelled, kept
from supervisor.store.dialect import StorageError
from supervisor.store.dialect.face import Outcome
from supervisor.store.dialect.operations import Barrier, Operation
from supervisor.store.hooks import JournalHooks

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
#: How long closing waits for the transaction under way, which nothing interrupts.
_LAST_SECONDS: Final = 10.0
#: A transaction that takes longer is waited for, and said: a disk that does not answer raises no error.
SLOW_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """How much the journal keeps in memory.

    Args:
        waiting: operations that may wait while the database refuses them.
        waiting_bytes: bytes of messages and replies that may wait likewise; the platform lets through 1 MB each
            (``docs/protocol.md#4-sending``).
        batch: operations in one transaction, so that others get their turn.
        batch_bytes: bytes of them, or one operation: a database copies what it is given.
        close_seconds: how long closing waits for what is not committed, unless it is told otherwise.
    """

    waiting: int = 20_000
    waiting_bytes: int = 256 * 1024 * 1024
    batch: int = 2_000
    batch_bytes: int = 16 * 1024 * 1024
    close_seconds: float = 10.0


class GroupCommitter:
    """Commits operations in batches and tells their callers.

    A batch that the database cannot write just now (disk full, file locked) is kept and tried again; meanwhile
    ``problem`` says why. An operation that the database refuses fails alone.

    Args:
        commit: commits a batch, see :meth:`supervisor.store.dialect.face.Database.commit`.
        hooks: told of commits and of failed attempts.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Operation]], Awaitable[Sequence[Outcome]]],
        clock: Clock,
        hooks: JournalHooks,
        limits: JournalLimits,
    ) -> None:
        self._write = commit
        self._clock = clock
        self._hooks = hooks
        self._limits = limits
        self._waiting: list[Operation] = []
        self._in_hand: Sequence[Operation] = ()
        self._waiting_bytes = 0
        self._wakeup = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.closed = False
        self._refusal: str | None = None
        # When the transaction under way began, in monotonic seconds.
        self._writing_since: float | None = None
        #: Asked for one more operation, if there is one, whenever a batch is taken: it waits for others to go with.
        self.on_batch: Callable[[], Operation | None] = lambda: None

    @property
    def problem(self) -> str | None:
        """Why nothing can be written at the moment; None when all is well."""
        since = self._writing_since
        if self._refusal is None and since is not None and self._clock.monotonic() - since > SLOW_SECONDS:
            return f"a transaction has been under way for more than {SLOW_SECONDS:g} s; the disk does not answer"
        return self._refusal

    @property
    def waiting(self) -> int:
        """Operations that are not committed yet."""
        return len(self._waiting) + len(self._in_hand)

    @property
    def waiting_bytes(self) -> int:
        """The bytes of text in them."""
        return self._waiting_bytes

    @property
    def dead(self) -> bool:
        """Whether its task has ended although nobody closed it: nothing is written any more."""
        return self._task is not None and self._task.done() and not self.closed

    @property
    def full(self) -> bool:
        """Whether as much waits as may."""
        return self.waiting >= self._limits.waiting or self._waiting_bytes >= self._limits.waiting_bytes

    def submit(self, operation: Operation) -> None:
        """Have an operation committed; its future tells the outcome.

        Raises:
            RegistryError: the journal is closed.
        """
        if self.closed:
            raise RegistryError("The registry is closed; nothing can be journaled any more")
        self._waiting.append(operation)
        self._waiting_bytes += operation.bytes_held
        if self._task is None:
            # Whoever asks first begins it for all: in a context of its own, its lines are not about that message.
            self._task = asyncio.create_task(kept(self._run), name="journal writer", context=own_context())
        self._idle.clear()
        self._wakeup.set()

    async def flush(self) -> None:
        """Return when everything submitted so far is committed; what others go on submitting is not waited for."""
        if self.waiting:
            barrier = Barrier()
            self.submit(barrier)
            await barrier.future

    async def close(self, seconds: float) -> None:
        """Commit what waits, for at most ``seconds``; what cannot be written fails its callers."""
        self.closed = True
        if self._task is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
        await cancel_all([self._task], _LAST_SECONDS)
        why = self.problem or "no time was left"
        self._give_up([*self._in_hand, *self._waiting], f"The registry was closed before this was written: {why}")
        self._in_hand, self._waiting, self._waiting_bytes = (), [], 0
        # Nothing is left to wait for, should somebody close it once more.
        self._idle.set()

    async def _run(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._waiting:
                self._in_hand, taken_bytes = self._take()
                try:
                    if (appended := self.on_batch()) is not None:
                        self._in_hand = [*self._in_hand, appended]
                    await self._commit(self._in_hand)
                except BaseException as error:
                    if isinstance(error, asyncio.CancelledError) and is_cancelled():
                        raise
                    # A defect of ours costs a batch, not the writer.
                    self._give_up(self._in_hand, f"The registry failed: {type(error).__name__}: {error}")
                self._in_hand = ()
                self._waiting_bytes -= taken_bytes
            self._idle.set()

    def _give_up(self, operations: Sequence[Operation], reason: str) -> None:
        """Fail those whose callers have heard nothing yet."""
        for operation in operations:
            _fail(operation, RegistryError(reason))

    def _take(self) -> tuple[Sequence[Operation], int]:
        """The operations of the next batch, and their bytes."""
        if len(self._waiting) <= self._limits.batch and self._waiting_bytes <= self._limits.batch_bytes:
            # As a rule everything fits: nothing is in hand now, so all the bytes are of what waits.
            taken, self._waiting = self._waiting, []
            return taken, self._waiting_bytes
        number = taken_bytes = 0
        for operation in self._waiting[: self._limits.batch]:
            if number and taken_bytes + operation.bytes_held > self._limits.batch_bytes:
                break
            number += 1
            taken_bytes += operation.bytes_held
        taken = self._waiting[:number]
        del self._waiting[:number]
        return taken, taken_bytes

    async def _commit(self, operations: Sequence[Operation]) -> None:
        """Commit a batch, however often that takes."""
        started = self._clock.monotonic()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._writing_since = self._clock.monotonic()
                outcomes = await self._write(operations)
                break
            except StorageError as error:
                self._report(str(error))
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                # By foreign code, before anything was written.
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the writer task
                refused = error if isinstance(error, RegistryError) else RegistryError(f"The registry failed: {error}")
                outcomes = [refused] * len(operations)
                break
            finally:
                self._writing_since = None
        self._settle(operations, outcomes)
        self._hooks.on_commit(self._clock.monotonic() - started, len(operations))

    def _settle(self, operations: Sequence[Operation], outcomes: Sequence[Outcome]) -> None:
        self._refusal = None
        for operation, outcome in zip(operations, outcomes, strict=True):
            if isinstance(outcome, RegistryError):
                self._report(str(outcome), lasting=False)
                _fail(operation, outcome)
                continue
            # The record is brought up to date even when its caller has gone: others may hold it.
            result = operation.result(outcome)
            if not operation.future.done():
                operation.future.set_result(result)

    def _report(self, problem: str, *, lasting: bool = True) -> None:
        if lasting:
            self._refusal = problem
        self._hooks.on_error(problem)


def _fail(operation: Operation, error: Exception) -> None:
    if not operation.future.done():
        operation.future.set_exception(error)
