"""How the journal commits: all operations that wait go into one transaction, and so on while any do.

There is no timer: batches form by themselves while a commit is under way. Nor is there a task: each step follows from a
callback, so that nothing is made for an operation, and nothing is there that foreign code could cancel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.owners import own_context
from supervisor.core.tasks import awaited
from supervisor.core.turns import SLICE_SECONDS
from supervisor.store.dialect import StorageError
from supervisor.store.dialect.face import Done, Outcome
from supervisor.store.dialect.operations import Barrier, Operation
from supervisor.store.hooks import JournalHooks

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
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
    ``problem`` says why. An operation that the database refuses fails alone; a
    callback that raises is told of, and the others go on.

    Args:
        begin: begins to commit a batch, see :meth:`supervisor.store.dialect.face.Database.begin_commit`.
        hooks: told of commits and of failed attempts.
    """

    def __init__(
        self,
        begin: Callable[[Sequence[Operation], Done], None],
        clock: Clock,
        hooks: JournalHooks,
        limits: JournalLimits,
    ) -> None:
        self._begin = begin
        self._clock = clock
        self._hooks = hooks
        self._limits = limits
        self._waiting: list[Operation] = []
        self._in_hand: Sequence[Operation] = ()
        self._waiting_bytes = 0
        self._bytes_in_hand = 0
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = False
        self._refusal: str | None = None
        # When the batch in hand was taken, and when its transaction began, if one is under way, in monotonic seconds.
        self._taken_at = 0.0
        self._writing_since: float | None = None
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._next_attempt: asyncio.TimerHandle | None = None
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
    def full(self) -> bool:
        """Whether as much waits as may."""
        waiting, limits = len(self._waiting) + len(self._in_hand), self._limits
        return waiting >= limits.waiting or self._waiting_bytes >= limits.waiting_bytes

    def submit(self, operation: Operation) -> None:
        """Have an operation committed; its ``then`` is told the outcome.

        Raises:
            RegistryError: the journal is closed.
        """
        if self.closed:
            raise RegistryError("The registry is closed; nothing can be journaled any more")
        self._waiting.append(operation)
        self._waiting_bytes += operation.bytes_held
        if not self._busy:
            self._busy = True
            self._idle.clear()
            # Whoever asks first begins it for all: in a context of its own, its lines are not about that message.
            asyncio.get_running_loop().call_soon(self._hand_over, context=own_context())

    def commit(self, operation: Operation) -> asyncio.Future[Any]:
        """As :meth:`submit`; the future tells the outcome.

        Raises:
            RegistryError: the journal is closed.
        """
        future, operation.then = awaited()
        self.submit(operation)
        return future

    async def flush(self) -> None:
        """Return when everything submitted so far is committed; what others go on submitting is not waited for."""
        if self.waiting:
            await self.commit(Barrier())

    async def close(self, seconds: float) -> None:
        """Commit what waits, for at most ``seconds``; what cannot be written fails its callers."""
        self.closed = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
        if self._next_attempt is not None:
            self._next_attempt.cancel()
        why = self.problem or "no time was left"
        left = [*self._in_hand, *self._waiting]
        self._in_hand, self._waiting, self._waiting_bytes = (), [], 0
        for operation in left:
            _tell(operation.then, None, RegistryError(f"The registry was closed before this was written: {why}"))
        # Nothing is left to wait for, should somebody close it once more.
        self._idle.set()

    def _hand_over(self) -> None:
        """Take what waits, and have it committed."""
        if not self._waiting:
            # Given up meanwhile: the journal is closed.
            return
        self._in_hand, self._bytes_in_hand = self._take()
        self._taken_at, self._pause_seconds = self._clock.monotonic(), _FIRST_PAUSE_SECONDS
        try:
            if (appended := self.on_batch()) is not None:
                self._in_hand = [*self._in_hand, appended]
        except BaseException as error:  # noqa: BLE001 - a defect of ours costs a batch, not the journal
            self._fail_batch(error)
        else:
            self._attempt()

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

    def _attempt(self) -> None:
        """Have the batch in hand committed."""
        self._next_attempt = None
        self._writing_since = self._clock.monotonic()
        try:
            self._begin(self._in_hand, self._ended)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it costs a batch
            self._fail_batch(error)

    def _fail_batch(self, error: BaseException) -> None:
        asyncio.get_running_loop().call_soon(self._ended, None, error)

    def _ended(self, outcomes: Sequence[Outcome] | None, error: BaseException | None) -> None:
        """What became of a transaction; the batch in hand is over, unless another attempt may succeed."""
        self._writing_since = None
        if not self._in_hand:
            # Given up while it was under way: the journal is closed.
            return
        if isinstance(error, StorageError):
            self._refusal = str(error)
            self._next_attempt = asyncio.get_running_loop().call_later(self._pause_seconds, self._attempt)
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
            _tell(self._hooks.on_error, self._refusal)
            return
        operations, self._in_hand = self._in_hand, ()
        self._waiting_bytes -= self._bytes_in_hand
        self._refusal = None
        if outcomes is None:
            outcomes = [_explained(error)] * len(operations)
        _tell(self._hooks.on_commit, self._clock.monotonic() - self._taken_at, len(operations))
        self._tell_callers(zip(operations, outcomes, strict=True))

    def _tell_callers(self, untold: Iterator[tuple[Operation, Outcome]]) -> None:
        """Tell what became of a batch, in slices, so that others get their turn of the loop; then the next is taken."""
        until = self._clock.monotonic() + SLICE_SECONDS
        try:
            for operation, outcome in untold:
                try:
                    if isinstance(outcome, RegistryError):
                        _tell(self._hooks.on_error, str(outcome))
                        operation.then(None, outcome)
                    else:
                        operation.then(operation.result(outcome), None)
                except BaseException as defect:  # noqa: BLE001 - the affair of whoever is told
                    _complain(defect)
                if self._clock.monotonic() >= until:
                    asyncio.get_running_loop().call_soon(self._tell_callers, untold, context=own_context())
                    return
        except BaseException as defect:  # noqa: BLE001 - nor does one here hold up who waits
            _complain(defect)
        if self._waiting:
            # Two rounds of the loop later: what these outcomes have begun, and is done at once, goes with it.
            loop = asyncio.get_running_loop()
            loop.call_soon(partial(loop.call_soon, self._hand_over))
        else:
            self._busy = False
            self._idle.set()


def _explained(error: BaseException | None) -> RegistryError:
    return error if isinstance(error, RegistryError) else RegistryError(f"The registry failed: {_named(error)}")


def _named(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


def _tell(then: Callable[..., object], *outcome: Any) -> None:
    """Tell a caller or a hook; where that raises, the others are told all the same."""
    try:
        then(*outcome)
    except BaseException as defect:  # noqa: BLE001 - the affair of whoever is told
        _complain(defect)


def _complain(defect: BaseException) -> None:
    what = f"what is told of a commit has failed: {_named(defect)}"
    asyncio.get_running_loop().call_exception_handler({"message": what, "exception": defect})
