"""Tokens that outlive the process that asked for them: kept encrypted, for whoever runs the agent next.

A token costs the platform a check of the secret, of which it makes few a second (docs/protocol.md#1-tokens); with each
of a replica's agents going elsewhere they would be many at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from supervisor.core.clock import Clock
from supervisor.core.errors import ConfigurationError, RegistryError
from supervisor.core.tasks import TaskSet
from supervisor.platform.tokens.grants import Grant
from supervisor.protocol.answers import ConnectAnswer
from supervisor.settings.secrets import SecretBox
from supervisor.telemetry.logs import get_logger

#: Gives what is kept of an agent, and how many seconds ago it was asked for; None: nothing.
Read = Callable[[str], Awaitable[tuple[bytes, float] | None]]
#: Keeps it in place of what was kept; None: nothing any more.
Write = Callable[[str, bytes | None, float], Awaitable[None]]


class _Kept(msgspec.Struct, frozen=True):
    """What is encrypted. Whoever can write rows of the registry could bring one agent's to another agent.

    Args:
        asked_with: see :func:`asked_with`.
    """

    agent_id: str
    asked_with: str
    answer: ConnectAnswer


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Kept).decode


class KeptTokens:
    """The tokens of all agents of a process, and of those that come to it.

    Args:
        box: encrypts them.
        read, write: where they are; RegistryError where that is not to be had just now.
    """

    def __init__(self, box: SecretBox, read: Read, write: Write, clock: Clock) -> None:
        self._box = box
        self._read = read
        self._write = write
        self._clock = clock
        # What is to be kept, the newest of each agent; None: nothing.
        self._due: dict[str, tuple[str, Grant] | None] = {}
        self._tasks = TaskSet()
        self._log = get_logger("supervisor.platform")

    async def find(self, agent_id: str, asked_with: str) -> tuple[ConnectAnswer, float] | None:
        """What an agent's last owner was told with its token, and how many seconds ago it asked for that.

        None where nothing is kept, or it was got with another secret or elsewhere, or none of the keys opens it.
        """
        try:
            found = await self._read(agent_id)
            if found is None:
                return None
            sealed, age_seconds = found
            kept = _decode(self._box.decrypt(sealed))
        except (RegistryError, ConfigurationError, msgspec.DecodeError):
            # The platform gives another one.
            return None
        return (kept.answer, age_seconds) if (kept.agent_id, kept.asked_with) == (agent_id, asked_with) else None

    def keep(self, agent_id: str, asked_with: str, grant: Grant) -> None:
        """Keep a token that the platform gave; returns at once."""
        self._write_soon(agent_id, (asked_with, grant))

    def forget(self, agent_id: str) -> None:
        """The platform has refused what is kept of an agent; returns at once."""
        self._write_soon(agent_id, None)

    def _write_soon(self, agent_id: str, what: tuple[str, Grant] | None) -> None:
        self._due[agent_id] = what
        if not self._tasks:
            self._tasks.spawn(self._write_due(), "keep tokens")

    async def _write_due(self) -> None:
        """One after the other, so that the last word on an agent is written last."""
        while self._due:
            agent_id = next(iter(self._due))
            what = self._due.pop(agent_id)
            try:
                if what is None:
                    await self._write(agent_id, None, 0.0)
                    continue
                asked_with, grant = what
                sealed = self._box.encrypt(_encode(_Kept(agent_id, asked_with, grant.answer)))
                await self._write(agent_id, sealed, grant.asked.age(self._clock))
            except RegistryError as error:
                # Whoever has it next asks for another one.
                self._log.info("token_not_kept", agent=agent_id, reason=str(error))

    async def close(self) -> None:
        """Keep nothing more."""
        self._due.clear()
        await self._tasks.cancel()


def asked_with(api_url: str, secret: str) -> str:
    """A digest of what a token is asked for with: with another secret, or elsewhere, another one is due."""
    return hashlib.sha256(f"{api_url}\0{secret}".encode()).hexdigest()
