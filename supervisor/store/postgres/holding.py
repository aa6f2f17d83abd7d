"""Who runs a registry: a row that its owner moves every second, and a fence that every write of its own holds.

A supervisor is one incarnation with a number that is never given again. Another one that wants the registry looks
whether the owner's row moves, by its own clock alone; where it does not for the length of a lease, it buries the owner:
it deletes the fence, which waits for what the owner is committing just then, and after which nothing of the owner's is
written any more, should it be alive after all. So a wrong guess costs a restart, and never a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg
import msgspec

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.core.tasks import cancel_all, kept
from supervisor.store.dialect import LockInfo
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.postgres.connecting import Connector, close
from supervisor.store.postgres.errors import BROKEN, FencedError, explain

T = TypeVar("T")

BEAT_SECONDS: Final = 1.0
#: Where the triggers of the table ``agents`` tell of a change.
CHANNEL: Final = "aiwm_agents"
_WATCH_SECONDS: Final = 0.2
#: The lock that one start at a time has, for as long as its transaction.
_STARTING: Final = 0x61_69_77_6D

_OWNERS: Final = "SELECT id, beat, said FROM replicas ORDER BY id"
_REGISTER: Final = "INSERT INTO replicas (id, said) SELECT nextval('replica_id'), $1 RETURNING id"
_FENCE: Final = "INSERT INTO fences (replica) VALUES ($1)"
_BEAT: Final = "UPDATE replicas SET beat = beat + 1, beat_at = clock_timestamp() WHERE id = $1 RETURNING beat"
_SAY: Final = "UPDATE replicas SET said = $2 WHERE id = $1"
_SEIZE: Final = "SELECT beat_at, said FROM replicas WHERE id = $1 AND beat = $2 FOR UPDATE"
_DIG: Final = "INSERT INTO graves (replica, said, beat_at) VALUES ($1, $2, $3) ON CONFLICT (replica) DO NOTHING"
_FAILED: Final = (
    "SELECT replica, said, extract(epoch FROM beat_at)::float8 FROM graves WHERE NOT told ORDER BY at DESC LIMIT 1"
)
_FORGET: Final = "DELETE FROM graves WHERE told AND at < now() - interval '7 days'"
_GONE: Final = (
    "DELETE FROM fences WHERE replica = $1",
    "DELETE FROM replicas WHERE id = $1",
    "DELETE FROM journal_commits WHERE writer = $1",
)


@dataclass(frozen=True, slots=True)
class _Owner:
    number: int
    beat: int
    info: LockInfo


def read_info(said: str) -> LockInfo:
    """Who says to hold a registry; of what another version says, what this one knows."""
    try:
        return msgspec.json.decode(said, type=LockInfo)
    except msgspec.DecodeError:
        return LockInfo(host="a host that cannot be read", pid=0)


async def owners(connection: asyncpg.Connection) -> list[_Owner]:
    """Every incarnation that is registered, in order of their numbers."""
    return [_Owner(number, beat, read_info(said)) for number, beat, said in await connection.fetch(_OWNERS)]


class Hold:
    """The registry, held from :meth:`take` to :meth:`release`.

    Attributes:
        number: of this incarnation.
        lost: why it is held no longer; None while it is.
    """

    def __init__(self, connector: Connector, clock: Clock, number: int, info: LockInfo) -> None:
        self._connector = connector
        self._clock = clock
        self.number = number
        self.info = info
        self.lost: str | None = None
        self._failed: tuple[int, FailedRun] | None = None
        self._told: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._connection: asyncpg.Connection | None = None

    @classmethod
    async def take(cls, connector: Connector, clock: Clock, info: LockInfo, lease_seconds: float) -> Hold:
        """Take the registry: at once where nobody has it, and after a lease from an owner that does not move.

        Raises:
            RegistryLockedError: its owner lives.
            RegistryError: the server cannot be asked.
        """
        connection = await connector.open()
        try:
            while (number := await _register(connection, info)) is None:
                await _wait_and_bury(connection, clock, connector.address.where, lease_seconds)
            hold = cls(connector, clock, number, info)
            await hold._read_failed(connection)
        except BROKEN as error:
            raise explain(connector.address.where, error) from None
        finally:
            await close(connection)
        hold._task = asyncio.create_task(kept(hold._beat), name="registry beat")
        return hold

    def announce(self, info: LockInfo) -> None:
        """Say who holds it, now; for a caller that cannot wait in the event loop."""
        self.info = info

        async def say() -> None:
            await self._once(_SAY, msgspec.json.encode(info).decode())

        try:
            from_outside(say())
        except RegistryError:
            # The next holder, and whoever asks who it is, hears less; nothing depends on it.
            return

    async def wait_for_change(self, seconds: float) -> None:
        """Return after so long, or as soon as the server tells that somebody has changed an agent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
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
                    at = await connection.fetchval("SELECT clock_timestamp()")
                    await connection.execute(_DIG, self.number, msgspec.json.encode(self.info).decode(), at)
                await self._note_told(connection)
                for statement in _GONE:
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
        while True:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connector.open()
                    # Through a pooler others would hear it: whoever waits looks by himself now and then.
                    if not self._connector.pooled:
                        await self._connection.add_listener(CHANNEL, self._hear)
                async with asyncio.timeout(10 * BEAT_SECONDS):
                    beat = await self._connection.fetchval(_BEAT, self.number)
                    await self._note_told(self._connection)
                if beat is None:
                    self.lost = str(FencedError(self._connector.address.where))
                    return
            except (*BROKEN, RegistryError, TimeoutError):
                # Whoever writes says why; the owner stays it for as long as nobody buries it.
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
            await self._clock.sleep(BEAT_SECONDS)

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


async def _register(connection: asyncpg.Connection, info: LockInfo) -> int | None:
    """A new incarnation where there is none; its number."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _STARTING)
        if await owners(connection):
            return None
        number: int = await connection.fetchval(_REGISTER, msgspec.json.encode(info).decode())
        await connection.execute(_FENCE, number)
        await connection.execute(_FORGET)
        return number


async def _wait_and_bury(connection: asyncpg.Connection, clock: Clock, where: str, lease_seconds: float) -> None:
    """Watch the owners until one moves, or none has for the length of a lease: then bury them."""
    seen = await owners(connection)
    deadline = clock.monotonic() + lease_seconds
    while clock.monotonic() < deadline:
        await clock.sleep(_WATCH_SECONDS)
        now = await owners(connection)
        if not now:
            return
        if [(one.number, one.beat) for one in now] != [(one.number, one.beat) for one in seen]:
            raise RegistryLockedError(
                f"Another supervisor runs on the registry {where}: {now[-1].info}; "
                "stop it first, or set SUPERVISOR_REGISTRY_URL to another database"
            )
    async with connection.transaction():
        for one in seen:
            found = await connection.fetchrow(_SEIZE, one.number, one.beat)
            if found is not None:
                beat_at, said = found
                await connection.execute(_DIG, one.number, said, beat_at)
                for statement in _GONE:
                    await connection.execute(statement, one.number)


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
