"""What a process heard that is no agent's owner any more: written down all the same, for whoever is.

Nothing is claimed, settled or sent; the unique key drops what the owner has heard itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
from msgspec.structs import replace

from supervisor.core.errors import RegistryError
from supervisor.core.states import MessageState
from supervisor.store.dialect.face import Outcome
from supervisor.store.dialect.operations import AddMessage, HandIn, MoveMessage, MoveReply, Operation
from supervisor.store.postgres.batch import Batch

#: The fence of whoever runs no agents.
_NOBODYS: Final = 0


def heard(operations: Sequence[Operation]) -> list[HandIn]:
    """The messages among what was to be written, as nobody has begun with them."""
    return [
        HandIn(row=replace(one.row, state=MessageState.AVAILABLE, attempts=0), body=one.body)
        for one in operations
        if isinstance(one, AddMessage) and one.row.state in (MessageState.AVAILABLE, MessageState.RUNNING)
    ]


async def hand_in(connection: asyncpg.Connection, adds: Sequence[HandIn], keys: Mapping[str, int]) -> int:
    """Write messages for their agents' owners; how many they did not have.

    Args:
        keys: the small integers of their agents.
    """
    batch = Batch(adds, keys)
    async with connection.transaction():
        told = await batch.apply(connection, _NOBODYS)
    return sum(batch.outcomes(told))


def outcomes(operations: Sequence[Operation], why: RegistryError) -> list[Outcome]:
    """What becomes of each operation: somebody else has the message, or has changed it; all others fail."""
    return [False if isinstance(one, AddMessage | MoveMessage | MoveReply) else why for one in operations]
