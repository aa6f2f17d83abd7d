"""One of the processes that run a registry: a row that it moves all the time, and a fence that its writes hold.

A supervisor is one incarnation with a number that is never given again. The others look whether its row moves, by their
own clocks alone; where it does not for the length of a lease, one buries it: it deletes the fence, which waits for what
is being committed just then, and after which nothing of the dead one is written any more, should it be alive after all.
So a wrong guess costs a restart, and never a message (``docs/architecture.md#several-processes``).

It counts as its agents' owner for two thirds of a lease from its last beat on: past that nothing is sent to the
platform, so that who stood still sends nothing that another one has sent meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

import asyncpg

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.tasks import cancel_all, kept
from supervisor.store.dialect import LockInfo
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.postgres.beats import BeatWatch, boot_seconds, pause_of
from supervisor.store.postgres.connecting import Connector, close
from supervisor.store.postgres.errors import BROKEN, FencedError, explain
from supervisor.store.postgres.joining import FEATURES, LEAVE, Member, bury, encode_info, join, members, read_info

T = TypeVar("T")

#: Where the triggers tell of changes of the tables ``agents`` and ``leases``.
CHANNEL: Final = "aiwm_agents"
#: The least time from one look at what was changed to the next.
_TOGETHER_SECONDS: Final = 0.1

_BEAT: Final = (
    "UPDATE replicas SET beat = beat + 1, beat_at = clock_timestamp(), down = $2::text[] WHERE id = $1 RETURNING beat"
)
_SAY: Final = "UPDATE replicas SET said = $2 WHERE id = $1"
_ENDED: Final = (
    "INSERT INTO graves (replica, said, beat_at) VALUES ($1, $2, clock_timestamp()) ON CONFLICT (replica) DO NOTHING"
)
_FAILED: Final = (
    "SELECT replica, said, extract(epoch FROM beat_at)::float8 FROM graves WHERE NOT told ORDER BY at DESC LIMIT 1"
)


class Hold:
    """A registry, run from :meth:`take` to :meth:`release`.

    Attributes:
        number: of this incarnation.
        lost: why it is run no longer; None while it is.
        living: how many run it, this one included.
        takers: how many others take agents.
        draining: whether this one gives its agents away, and gets none.
        buried: how many others this one has found dead.
        down: the hosts that this one finds down; told with each beat.
        heard_down: those that each of the others finds down, by its number.
        stuck: asked before each beat: whether what is to be written has waited for so many seconds; who cannot write is
            of no use to its agents, and lets others have them.
    """

    def __init__(self, connector: Connector, clock: Clock, number: int, info: LockInfo) -> None:
        self._connector = connector
        self._clock = clock
        self.number = number
        self.info = info
        self.lost: str | None = None
        self.living, self.takers, self.buried, self.draining = 1, 0, 0, False
        self.down: frozenset[str] = frozenset()
        self.heard_down: Mapping[int, frozenset[str]] = {}
        self.stuck: Callable[[float], bool] = lambda _seconds: False
        self._watch = BeatWatch(info.lease_seconds)
        self._count = 0
        self._sure_until = boot_seconds() + self._sure_seconds
        self._failed: tuple[int, FailedRun] | None = None
        self._told: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._connection: asyncpg.Connection | None = None

    @classmethod
    async def take(cls, connector: Connector, clock: Clock, info: LockInfo) -> Hold:
        """Join those that run the registry; where it is to be alone or cannot be beside them, wait for their end.

        Raises:
            RegistryLockedError, RegistryError: somebody is in the way, and lives; or the server cannot be asked.
        """
        info = replace(info, features=FEATURES)
        connection = await connector.open()
        try:
            number = await join(connection, clock, connector.address.where, info)
            hold = cls(connector, clock, number, info)
            await hold._read_failed(connection)
        except BROKEN as error:
            raise explain(connector.address.where, error) from None
        finally:
            await close(connection)
        hold._task = asyncio.create_task(kept(hold._beat), name="registry beat")
        return hold

    @property
    def _sure_seconds(self) -> float:
        return self.info.lease_seconds * 2 / 3

    @property
    def sure(self) -> bool:
        """Whether nobody else can have its agents: it has moved not long ago, and was not buried."""
        return self.lost is None and boot_seconds() < self._sure_until

    def announce(self, info: LockInfo) -> None:
        """Say who holds it, now; for a caller that cannot wait in the event loop."""
        self.info = info = replace(info, features=FEATURES)

        async def say() -> None:
            await self._once(_SAY, encode_info(info))

        try:
            from_outside(say())
        except RegistryError:
            # The others, and whoever asks who it is, hear less; nothing depends on it.
            return

    async def wait_for_change(self, seconds: float) -> None:
        """Return after so long, or as soon as the server tells that somebody has changed an agent."""
        # Many that go elsewhere are told of one by one, and looked at together.
        await asyncio.sleep(min(seconds, _TOGETHER_SECONDS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds - _TOGETHER_SECONDS)):
                await self._heard.wait()
        self._heard.clear()

    def take_failed_run(self) -> FailedRun | None:
        """The run before, where it did not end well; told once, and kept for the next holder until it is."""
        if self._failed is None:
            return None
        (self._told, failed), self._failed = self._failed, None
        return failed

    async def release(self) -> None:
        """Give it up; what went wrong in this run is left for the next holder."""
        if self._task is not None:
            await cancel_all([self._task], 5.0)
            self._task = None
        if self._connection is not None:
            await close(self._connection)
            self._connection = None
        if self.lost is not None:
            return
        with contextlib.suppress(RegistryError):
            await self._leave()

    async def _leave(self) -> None:
        connection = await self._connector.open()
        try:
            async with connection.transaction():
                if self.info.ended:
                    await connection.execute(_ENDED, self.number, encode_info(self.info))
                await self._note_told(connection)
                for statement in LEAVE:
                    await connection.execute(statement, self.number)
        except BROKEN as error:
            raise explain(self._connector.address.where, error) from None
        finally:
            await close(connection)

    async def _read_failed(self, connection: asyncpg.Connection) -> None:
        found = await connection.fetchrow(_FAILED)
        if found is None:
            return
        number, said, wrote_at = found
        info = read_info(said)
        # Commands that held it for a moment are of no interest.
        if info.address:
            self._failed = number, FailedRun(info, "", wrote_at)

    async def _note_told(self, connection: asyncpg.Connection) -> None:
        if self._told is not None:
            await connection.execute("UPDATE graves SET told = true WHERE replica <= $1", self._told)
            self._told = None

    async def _beat(self) -> None:
        lease = self.info.lease_seconds
        while True:
            began = boot_seconds()
            try:
                async with asyncio.timeout(lease / 3):
                    connection = await self._opened()
                    others = await self._move(connection, began)
                    await self._note_told(connection)
                await self._bury_the_dead(connection, others)
            except FencedError as error:
                self.lost = str(error)
                return
            except (*BROKEN, RegistryError, TimeoutError):
                # Whoever writes says why; it stays the owner of its agents for as long as nobody buries it.
                self._watch.interrupt()
                self._drop()
            await self._clock.sleep(max(0.0, pause_of(lease) - (boot_seconds() - began)))

    async def _opened(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connector.open()
            # Through a pooler others would hear it: whoever waits looks by himself now and then.
            if not self._connector.pooled:
                await self._connection.add_listener(CHANNEL, self._hear)
        return self._connection

    async def _move(self, connection: asyncpg.Connection, began: float) -> Iterable[Member]:
        """Say that it lives, unless it is of no use; the others.

        Raises:
            FencedError: it was buried, or the database went back to what it was before and knows nothing of it.
        """
        if not self.stuck(self.info.lease_seconds / 2):
            count = await connection.fetchval(_BEAT, self.number, sorted(self.down))
            if count is None or count <= self._count:
                raise FencedError(self._connector.address.where)
            self._count = count
            # From before the question: when the server got it nobody knows.
            self._sure_until = began + self._sure_seconds
        everyone = {one.number: one for one in await members(connection)}
        if (this := everyone.pop(self.number, None)) is None:
            raise FencedError(self._connector.address.where)
        self.draining = this.draining
        others = [one for one in everyone.values() if not one.info.alone]
        self.heard_down = {one.number: one.down for one in others}
        self.living, self.takers = 1 + len(others), sum(not one.draining for one in others)
        return everyone.values()

    async def _bury_the_dead(self, connection: asyncpg.Connection, others: Iterable[Member]) -> None:
        for dead in self._watch.look(one.beat for one in others):
            # What it is committing may take long: then the next time.
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                self.buried += await bury(connection, dead, self.info.lease_seconds)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _hear(self, *_: object) -> None:
        self._heard.set()

    async def _once(self, statement: str, *values: Any) -> None:
        connection = await self._connector.open()
        try:
            await connection.execute(statement, self.number, *values)
        except BROKEN as error:
            raise explain(self._connector.address.where, error) from None
        finally:
            await close(connection)


def from_outside(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` in an event loop and a thread of its own: for callers that have no loop, or cannot wait in it."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the thread
            failed.append(error)

    thread = threading.Thread(target=run, name="registry question")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
