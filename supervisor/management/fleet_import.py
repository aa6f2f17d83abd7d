"""Making a registry hold what a fleet's file says: by command, or by the supervisor that watches the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from supervisor.core.errors import ConfigurationError
from supervisor.core.problems import Problems
from supervisor.core.records import AgentRecord
from supervisor.management import fleet_file
from supervisor.management.agents import Checker
from supervisor.management.fleet_file import Plan
from supervisor.store import Registry

#: A fleet of ten thousand agents is some 3 MB.
MAX_FILE_BYTES: Final = 32 << 20


def read(path: Path) -> str:
    """A file's text.

    Raises:
        ConfigurationError: it cannot be read, is too large, or is no text; names the file.
    """
    try:
        with path.open("rb") as opened:
            return decoded(opened.read(MAX_FILE_BYTES + 1), str(path))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def decoded(raw: bytes, source: str) -> str:
    """What was read of ``source``, one byte past :data:`MAX_FILE_BYTES` at most, as text.

    Raises:
        ConfigurationError: it is too large, or no text.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{source} has more than {MAX_FILE_BYTES >> 20} MiB; that is no fleet")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{source} is not text in UTF-8") from None


def checked(
    text: str, source: str, existing: Iterable[AgentRecord], checker: Checker, *, keep_going: bool
) -> list[AgentRecord]:
    """The fleet that a file says, as far as it may be stored; what may be wrong is left in ``checker``.

    Args:
        source: what to call the file in errors.
        existing: the agents that there are: settings of theirs that stand there already are not called slips.
        keep_going: take in agents that cannot run yet; what keeps them from it is left in ``checker`` too.

    Raises:
        ConfigurationError: all that is wrong, each with the file and the entry.
    """
    problems = Problems()
    records = []
    there = {record.id: record for record in existing}
    for number, record in fleet_file.entries(text, source, problems):
        records.append(record)
        where = f"{source}: agent {number} ({record.id})"
        with problems.gathered():
            checker.check(record, where, keep_going=keep_going)
        with problems.gathered():
            checker.spelling(record, there.get(record.id), where, keep_going=keep_going)
    problems.raise_found()
    return records


async def bring(registry: Registry, records: Sequence[AgentRecord], *, prune: bool) -> Plan:
    """Make the registry hold these agents, all of them or nothing; what was done.

    Raises:
        RegistryError: it cannot be written, or was changed meanwhile.
    """
    plan = fleet_file.plan(records, await registry.agents(), prune=prune)
    if not plan.empty:
        changed = [change.record for change in plan.change]
        await registry.apply(add=plan.add, change=changed, remove=plan.remove)
    return plan
