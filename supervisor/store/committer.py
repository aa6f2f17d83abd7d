"""The journal's writer task: takes all operations that wait, commits them in one transaction, and repeats.

There is no timer: batches form by themselves while a commit is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.store import batch, sqlite
from supervisor.store.writer import Writer

#: One transaction holds at most this many operations, so that others get their turn.
BATCH_LIMIT: Final = 2_000
#: Operations that may wait in memory while the disk refuses them (RELIABILITY R14: up to a bound).
WAITING_LIMIT: Final = 20_000
#: Bytes of messages and replies that may wait likewise; the platform lets through 1 MB each (PROTOCOL §2).
WAITING_BYTES_LIMIT: Final = 256 * 1024 * 1024
#: One transaction holds at most this many bytes of them, or one operation: SQLite copies what it is given.
BATCH_BYTES: Final = 16 * 1024 * 1024
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0


class GroupCommitter:
    """Commits operations in batches and tells their callers.

    A batch that SQLite cannot write just now (disk full, file locked) is kept and tried again; meanwhile ``problem``
    says why. An operation that the database refuses fails alone.

    Args:
        explain: words an error of the database for people.
    """

    def __init__(self, writer: Writer, numbers: batch.Numbers, clock: Clock, explain: Callable[[Exception], Exception]):
        self._writer = writer
        self._numbers = numbers
        self._clock = clock
        self._explain = explain
        self._waiting: list[batch.Operation] = []
        self._in_hand: Sequence[batch.Operation] = ()
        self._waiting_bytes = 0
        self._wakeup = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.closed = False
        #: Why nothing can be written at the moment; None when all is well.
        self.problem: str | None = None
        #: Called after each commit with its seconds and its number of operations.
        self.on_commit: Callable[[float, int], None] | None = None
        #: Called with one readable line for each failed attempt to write.
        self.on_error: Callable[[str], None] | None = None
        #: Asked for one more operation, if there is one, whenever a batch is taken: it waits for others to go with.
        self.on_batch: Callable[[], batch.Operation | None] | None = None

    @property
    def waiting(self) -> int:
        """Operations that are not committed yet."""
        return len(self._waiting) + len(self._in_hand)

    @property
    def waiting_bytes(self) -> int:
        """The bytes of text in them."""
        return self._waiting_bytes

    def submit(self, operation: batch.Operation) -> None:
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
            self._task = asyncio.create_task(self._run(), name="journal writer", context=Context())
        self._idle.clear()
        self._wakeup.set()

    async def flush(self) -> None:
        """Return when everything submitted so far is committed; what others go on submitting is not waited for."""
        if self.waiting:
            barrier = batch.Barrier(asyncio.get_running_loop().create_future())
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
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        left = RegistryError(f"The registry was closed before this was written: {self.problem or 'no time was left'}")
        for operation in [*self._in_hand, *self._waiting]:
            _fail(operation, left)
        self._in_hand, self._waiting, self._waiting_bytes = (), [], 0
        # Nothing is left to wait for, should somebody close it once more.
        self._idle.set()

    # ── the task ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._waiting:
                self._in_hand, held = self._take()
                if self.on_batch is not None and (rider := self.on_batch()) is not None:
                    self._in_hand = [*self._in_hand, rider]
                await self._commit(self._in_hand)
                self._in_hand = ()
                self._waiting_bytes -= held
            self._idle.set()

    def _take(self) -> tuple[Sequence[batch.Operation], int]:
        """The operations of the next batch, and their bytes."""
        if len(self._waiting) <= BATCH_LIMIT and self._waiting_bytes <= BATCH_BYTES:
            # As a rule everything fits: nothing is in hand now, so all the bytes are of what waits.
            taken, self._waiting = self._waiting, []
            return taken, self._waiting_bytes
        number = held = 0
        for operation in self._waiting[:BATCH_LIMIT]:
            if number and held + operation.bytes_held > BATCH_BYTES:
                break
            number += 1
            held += operation.bytes_held
        taken = self._waiting[:number]
        del self._waiting[:number]
        return taken, held

    async def _commit(self, operations: Sequence[batch.Operation]) -> None:
        """Commit a batch, however often that takes."""
        started = self._clock.monotonic()
        apply: Callable[..., Sequence[Any]] = batch.apply
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                outcomes = await self._writer.transact(partial(apply, operations=operations, numbers=self._numbers))
                break
            except sqlite.StorageError as error:
                self._report(str(error))
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the writer task
                if apply is batch.apply_singly:
                    # Not one operation's fault then: all of them fail, and later batches have their chance.
                    outcomes = [error] * len(operations)
                    break
                apply = batch.apply_singly
        self._numbers.keep()
        self._settle(operations, outcomes)
        if self.on_commit is not None:
            self.on_commit(self._clock.monotonic() - started, len(operations))

    def _settle(self, operations: Sequence[batch.Operation], outcomes: Sequence[Any]) -> None:
        self.problem = None
        for operation, outcome in zip(operations, outcomes, strict=True):
            if isinstance(outcome, Exception):
                explained = self._explain(outcome)
                self._report(str(explained), lasting=False)
                _fail(operation, explained)
                continue
            # The row is brought up to date even when its caller has gone: others may hold it.
            result = operation.result(outcome)
            if not operation.future.done():
                operation.future.set_result(result)

    def _report(self, problem: str, *, lasting: bool = True) -> None:
        if lasting:
            self.problem = problem
        if self.on_error is not None:
            self.on_error(problem)


def _fail(operation: batch.Operation, error: Exception) -> None:
    if not operation.future.done():
        operation.future.set_exception(error)
