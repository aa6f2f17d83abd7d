"""Noticing that somebody else has changed an agent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from supervisor.store.sqlite.driver import data_version
from supervisor.store.sqlite.write_watch import WriteWatch
from supervisor.store.sqlite.writer import Writer

#: After a write to the log one looks at once, since a commit is as a rule over then, and again after longer and longer
#: times, since it may be a slow one's first write.
_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGER: Final = 4


class ChangeNotice:
    """Compares a number of SQLite's that moves when another connection has committed anything, raw SQL included.

    It costs microseconds. The commits of the writer itself, the journal's above all, do not move it: one process
    changes the registry through one connection.

    Args:
        path: the database; its log is what every commit writes to.
        version: the number as it is.
    """

    def __init__(self, writer: Writer, path: Path, version: int) -> None:
        self._writer = writer
        self._log = path.with_name(f"{path.name}-wal")
        self._version = version
        self._watch: WriteWatch | None = None
        # Until the next look, after a write; None where none was lately.
        self._pause: float | None = None

    @classmethod
    async def begin(cls, writer: Writer, path: Path) -> ChangeNotice:
        """Notice what is committed from now on.

        Raises:
            RegistryError: SQLite cannot tell.
        """
        return cls(writer, path, await writer.call(data_version))

    async def changed(self) -> bool:
        """Whether anybody else has committed since this was last asked.

        Raises:
            StorageError: SQLite cannot tell just now; asked again, it still says so.
        """
        version = await self._writer.call(data_version)
        moved, self._version = version != self._version, version
        if moved:
            self._pause = None
        return moved

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until :meth:`changed` is worth asking again, for so long at most.

        The log tells of the writer's own commits too. While those follow each other there are some four looks in
        ``seconds``, not one for each of them.
        """
        if self._pause is not None and self._pause < seconds:
            pause, self._pause = self._pause, self._pause * _LONGER
            await asyncio.sleep(pause)
            return
        self._watch = self._watch or WriteWatch(self._log)
        self._pause = _FIRST_PAUSE_SECONDS if await self._watch.wait(seconds) else None

    def close(self) -> None:
        """Give up what the system lent; idempotent."""
        if self._watch is not None:
            self._watch.close()
