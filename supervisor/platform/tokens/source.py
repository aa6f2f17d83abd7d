"""One agent's token: its owner."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import SupervisorError, TokenError, Verdict
from supervisor.core.tasks import first_done
from supervisor.platform.tokens.client import TokenClient
from supervisor.platform.tokens.grants import Grant
from supervisor.platform.tokens.keeping import KeptTokens, asked_with
from supervisor.protocol.answers import ConnectAnswer

#: How many refused tokens are known again.
_REMEMBERED_REFUSALS: Final = 16


class _Flight:
    """A request under way, and how many wait for it."""

    __slots__ = ("callers", "task")

    def __init__(self, task: asyncio.Task[Grant]) -> None:
        self.task = task
        self.callers = 0


class TokenSource:
    """The owner of one agent's token.

    Args:
        client: asks the platform.
        agent_id: the agent's id.
        api_url: the platform's API.
        secret: gives the secret; asked at each fetch, so that a changed file or variable is picked up.
        clock: by which a token's life is counted.
        proxy: an HTTP proxy's URL.
        kept: keeps tokens beyond this process; None where nothing does.
    """

    def __init__(
        self,
        client: TokenClient,
        agent_id: str,
        api_url: str,
        secret: Callable[[], str],
        clock: Clock,
        *,
        proxy: str | None = None,
        kept: KeptTokens | None = None,
    ) -> None:
        self._client = client
        self._agent_id = agent_id
        self._api_url = api_url
        self._secret = secret
        self._clock = clock
        self._proxy = proxy
        self._kept = kept
        self._resume = False
        self._asked_with = ""
        #: The newest grant that was not refused; written by :meth:`_use` and :meth:`refuse` alone.
        self.current: Grant | None = None
        self._flight: _Flight | None = None
        self._unwinding: set[asyncio.Task[Grant]] = set()
        # Digests: two JWTs minted within a second are the same text, so a new grant can be a refused token.
        self._refused: tuple[bytes, ...] = ()
        self._closed = False

    def __repr__(self) -> str:
        return f"TokenSource({self._agent_id}, current={self.current!r})"

    def resume(self) -> None:
        """Begin with the token that is kept, where there is one; to be called before it is asked for any."""
        self._resume = self._kept is not None

    async def get(self, *, newer_than: Grant | None = None) -> Grant:
        """Return a grant that is good for a while yet, from the platform where there is none at hand.

        Args:
            newer_than: a grant that will not do any more, though nobody refused it.

        Raises:
            TokenError: the platform gave none.
        """
        if self._resume:
            self._resume = False
            await self._take_up()
        grant = self.current
        if grant is not None and grant is not newer_than and not grant.stale(self._clock):
            return grant
        return await self.refresh()

    async def refresh(self) -> Grant:
        """Get a new grant now. Callers at the same time share one request, which lasts while any of them waits.

        Raises:
            TokenError: the platform gave none, or the source is closed.
        """
        grant = await self._share()
        while _digest(grant) in self._refused:
            # Another caller that shared the request has been refused with it already.
            grant = await self._share()
        return grant

    async def _share(self) -> Grant:
        """Wait for the request under way, or make one."""
        if self._closed:
            raise TokenError("the agent stops")
        flight = self._flight
        if flight is None or flight.task.done():
            task = asyncio.create_task(self._fetch(), name=f"token {self._agent_id}")
            flight = self._flight = _Flight(task)
        flight.callers += 1
        try:
            # Unlike shield(), this leaves the outcome to each caller, and the request alone when one is cancelled.
            await first_done(flight.task)
        finally:
            flight.callers -= 1
            if flight.callers == 0:
                self._end(flight)
        if flight.task.cancelled():
            raise TokenError("the agent stops")
        return flight.task.result()

    def _end(self, flight: _Flight) -> None:
        """Forget a request that is over, or that nobody waits for any more."""
        if flight is self._flight:
            self._flight = None
        flight.task.cancel()
        self._unwinding.add(flight.task)
        flight.task.add_done_callback(self._unwound)

    def _unwound(self, task: asyncio.Task[Grant]) -> None:
        self._unwinding.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio complains of it

    async def _fetch(self) -> Grant:
        secret = self._read_secret()
        self._asked_with = asked_with(self._api_url, secret)
        try:
            grant = await self._client.fetch(self._agent_id, self._api_url, secret, proxy=self._proxy)
        except TokenError as error:
            if error.verdict is Verdict.REJECT and self._kept is not None:
                # The platform might let the agent in with it all the same (docs/protocol.md#1-tokens).
                self._kept.forget(self._agent_id)
            raise
        if _digest(grant) in self._refused:
            raise TokenError("the platform gave the token again that it refused", retry_after_seconds=1.0)
        return self._use(grant)

    async def _take_up(self) -> None:
        """Go on with the token of whoever had the agent before, where that is kept and good for a while yet."""
        self._asked_with = asked_with(self._api_url, self._read_secret())
        found = await self._kept.find(self._agent_id, self._asked_with) if self._kept is not None else None
        if found is not None and self.current is None:
            with suppress(TokenError):
                self.current = self._client.resumed(*found)

    def _use(self, grant: Grant) -> Grant:
        self.current = grant
        if self._kept is not None:
            self._kept.keep(self._agent_id, self._asked_with, grant)
        return grant

    def adopt(self, token: str) -> Grant:
        """Take over a fresh token that the platform gave unasked; all else stays as the last answer told it.

        Raises:
            TokenError: there is none to go by, or the token has ended already or was refused.
        """
        if self.current is None:
            raise TokenError("a token came before any was asked for")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise TokenError("the platform gave a token that is none")
        grant = self._client.renewed(self.current, token)
        if _digest(grant) in self._refused:
            raise TokenError("the platform gave a token that it had refused")
        return self._use(grant)

    def _read_secret(self) -> str:
        try:
            return self._secret()
        except SupervisorError as error:
            reason = str(error)
        except OSError as error:
            reason = f"the secret cannot be read: {error.strerror or type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent cannot run without a secret
            reason = f"the secret cannot be read ({type(error).__name__})"
        raise TokenError(reason, Verdict.FAULT)

    def amend(self, grant: Grant, answer: ConnectAnswer) -> Grant | None:
        """Let ``answer`` stand for what came with a token; None where another token has come meanwhile."""
        if self.current is not grant:
            return None
        return self._use(replace(grant, answer=answer))

    def refuse(self, grant: Grant) -> None:
        """The platform refused this grant's token: it is never given out again."""
        self._refused = (*self._refused, _digest(grant))[-_REMEMBERED_REFUSALS:]
        if self.current is not None and self.current.token == grant.token:
            self.current = None
            if self._kept is not None:
                self._kept.forget(self._agent_id)

    async def close(self) -> None:
        """Cancel what is under way; those who wait for it get a :class:`TokenError`."""
        self._closed = True
        if self._flight is not None:
            self._end(self._flight)
        if self._unwinding:
            await asyncio.wait(list(self._unwinding))


def _digest(grant: Grant) -> bytes:
    return hashlib.sha256(grant.token.encode()).digest()
