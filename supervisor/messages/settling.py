"""Writes what came of a message, however often the database refuses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from supervisor.core.errors import RegistryError
from supervisor.messages.scope import Scope

#: When to try again to journal what came of a message, where the database refused it.
RETRY_SECONDS = 5.0

#: When to look again at a message that could not be settled.
UNSETTLED_RETRY_SECONDS = 5.0

_T = TypeVar("_T")


async def until_journaled(scope: Scope, write: Callable[[], Awaitable[_T]]) -> _T:
    """Call ``write`` until it succeeds: what was done for a message must not be done again.

    The message's lane waits meanwhile, as it does while the disk takes nothing at all.
    """
    while True:
        try:
            return await write()
        except RegistryError as error:
            scope.log.warning("message_not_settled", reason=str(error))
            await scope.clock.sleep(RETRY_SECONDS)
