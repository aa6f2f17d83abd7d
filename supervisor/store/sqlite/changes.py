"""Noticing that somebody else has changed an agent."""

from __future__ import annotations

from supervisor.store.sqlite.driver import data_version
from supervisor.store.sqlite.writer import Writer


class ChangeNotice:
    """Compares a number of SQLite's that moves when another connection has committed anything, raw SQL included.

    It costs microseconds. The commits of the writer itself, the journal's above all, do not move it: one process
    changes the registry through one connection.
    """

    def __init__(self, writer: Writer, version: int) -> None:
        self._writer = writer
        self._version = version

    @classmethod
    async def begin(cls, writer: Writer) -> ChangeNotice:
        """Notice what is committed from now on.

        Raises:
            RegistryError: SQLite cannot tell.
        """
        return cls(writer, await writer.call(data_version))

    async def changed(self) -> bool:
        """Whether anybody else has committed since this was last asked.

        Raises:
            StorageError: SQLite cannot tell just now; asked again, it still says so.
        """
        version = await self._writer.call(data_version)
        moved, self._version = version != self._version, version
        return moved
