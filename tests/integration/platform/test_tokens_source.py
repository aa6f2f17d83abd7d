"""One agent's token: one request however many ask, and no token that was refused or has expired."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from aiohttp import web

from supervisor.core.clock import SystemClock
from supervisor.core.errors import ConfigurationError, TokenError, Verdict
from supervisor.platform.tokens import Grant, TokenSource
from tests.support.gateway import eventually
from tests.support.token_server import AGENT, SECRET, TokenServer, client, jwt, token_server


class Gate:
    """Holds the server's answers until it is opened."""

    def __init__(self, server: TokenServer) -> None:
        self._server = server
        self.open = asyncio.Event()
        server.answer = self._hold

    async def _hold(self, request: web.Request) -> web.StreamResponse:
        await self.open.wait()
        return self._server.grant(request)


async def test_a_valid_grant_is_used_again() -> None:
    async with token_server() as server, client() as made:
        source = made.source(server.url)
        first = await source.get()
        assert source.current is first
        assert await source.get() is first
        assert len(server.requests) == 1


async def test_callers_at_the_same_time_share_one_request() -> None:
    async with token_server() as server, client() as made:
        gate, source = Gate(server), made.source(server.url)
        callers = [asyncio.create_task(source.get()) for _ in range(20)]
        callers += [asyncio.create_task(source.refresh()) for _ in range(20)]
        await eventually(lambda: server.running == 1)
        gate.open.set()
        grants = await asyncio.gather(*callers)
        assert len({id(grant) for grant in grants}) == 1
        assert len(server.requests) == 1


async def test_refresh_and_newer_than_ask_again() -> None:
    async with token_server() as server, client() as made:
        source = made.source(server.url)
        first = await source.get()
        second = await source.refresh()
        assert second is not first
        assert source.current is second
        # Somebody with the old one gets the current one; with the current one, a newer.
        assert await source.get(newer_than=first) is second
        third = await source.get(newer_than=second)
        assert third is not second
        assert len(server.requests) == 3


async def test_an_expired_grant_is_never_given_out() -> None:
    async with token_server() as server, client() as made:
        server.answer = lambda _request: web.json_response(
            {"accessToken": jwt(n=len(server.requests)), "expiresIn": 0.05}, status=201
        )
        source = made.source(server.url)
        first = await source.get()
        await eventually(lambda: first.expired(SystemClock()))
        assert await source.get() is not first


async def test_a_grant_that_might_end_on_its_way_is_not_given_out() -> None:
    class Later(SystemClock):
        seconds = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.seconds

    async with token_server() as server, client() as made:
        clock = Later()
        source = TokenSource(made.tokens, AGENT, server.url, lambda: SECRET, clock)
        first = await source.get()
        clock.seconds = first.stale_seconds - 10
        assert await source.get() is first
        clock.seconds += 20
        assert not first.expired(clock)
        assert await source.get() is not first


async def test_a_refused_token_is_never_given_out_again() -> None:
    async with token_server() as server, client() as made:
        source = made.source(server.url)
        first = await source.get()
        source.refuse(first)
        assert source.current is None
        second = await source.get()
        assert second.token != first.token
        # Refusing the old one again does not touch the new one.
        source.refuse(first)
        assert source.current is second


async def test_a_refused_token_that_the_platform_gives_again_is_a_failure() -> None:
    """Two JWTs minted within the same second are the same text."""
    async with token_server() as server, client() as made:
        server.answer = lambda _request: web.json_response({"accessToken": "same", "expiresIn": 60}, status=201)
        source = made.source(server.url)
        source.refuse(await source.get())
        with pytest.raises(TokenError, match="gave the token again") as failure:
            await source.get()
        assert failure.value.verdict is Verdict.RETRY
        assert failure.value.retry_after_seconds == 1.0
        assert source.current is None


async def test_a_cancelled_caller_leaves_the_request_to_the_others() -> None:
    async with token_server() as server, client() as made:
        gate, source = Gate(server), made.source(server.url)
        callers = [asyncio.create_task(source.get()) for _ in range(3)]
        await eventually(lambda: server.running == 1)
        callers[0].cancel()
        callers[1].cancel()
        await asyncio.wait(callers[:2])
        assert all(caller.cancelled() for caller in callers[:2])
        gate.open.set()
        assert (await callers[2]).token
        assert len(server.requests) == 1


async def test_when_all_callers_are_gone_the_request_is_broken_off() -> None:
    async with token_server() as server, client() as made:
        gate, source = Gate(server), made.source(server.url)
        callers = [asyncio.create_task(source.get()) for _ in range(3)]
        await eventually(lambda: server.running == 1)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        await eventually(lambda: server.running == 0)
        assert made.pool.active == 0
        assert source.current is None
        # And the next caller starts afresh.
        gate.open.set()
        assert (await source.get()).token
        assert len(server.requests) == 2


async def test_a_failure_reaches_every_caller_and_the_next_one_asks_again() -> None:
    async with token_server() as server, client() as made:
        server.answer = lambda _request: web.json_response({"message": "Invalid credentials"}, status=401)
        source = made.source(server.url)
        outcomes = await asyncio.gather(*(source.get() for _ in range(5)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["401 Invalid credentials"] * 5
        assert len(server.requests) == 1
        server.answer = server.grant
        assert (await source.get()).token
        assert made.outcomes == ["rejected", "ok"]


async def test_a_failed_refresh_keeps_the_current_grant() -> None:
    async with token_server() as server, client() as made:
        source = made.source(server.url)
        first = await source.get()
        server.answer = lambda _request: web.Response(status=503)
        with pytest.raises(TokenError):
            await source.refresh()
        assert await source.get() is first


async def test_the_secret_is_asked_for_at_each_fetch() -> None:
    secrets = iter(["first", "second"])
    async with token_server() as server, client() as made:
        source = made.source(server.url, lambda: next(secrets))
        await source.get()
        await source.refresh()
        assert [body for _, body in server.requests] == [{"secret": "first"}, {"secret": "second"}]


def _raising(error: Exception) -> Callable[[], str]:
    def secret() -> str:
        raise error

    return secret


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigurationError("env:AGENT_1 is not set"), "env:AGENT_1 is not set"),
        (FileNotFoundError(2, "No such file or directory", "/run/secrets/a"), "cannot be read: No such file"),
        (ValueError(f"cannot decode {SECRET}"), r"cannot be read \(ValueError\)"),
    ],
)
async def test_a_secret_that_cannot_be_read_is_the_agents_fault(error: Exception, reason: str) -> None:
    async with token_server() as server, client() as made:
        source = made.source(server.url, _raising(error))
        with pytest.raises(TokenError, match=reason) as failure:
            await source.get()
        assert failure.value.verdict is Verdict.FAULT
        assert SECRET not in str(failure.value)
        assert server.requests == []


async def test_closing_ends_the_request_and_tells_the_callers() -> None:
    async with token_server() as server, client() as made:
        Gate(server)
        source = made.source(server.url)
        callers = [asyncio.create_task(source.get()) for _ in range(3)]
        await eventually(lambda: server.running == 1)
        await source.close()
        for caller in callers:
            with pytest.raises(TokenError, match="stops"):
                await caller
        await eventually(lambda: server.running == 0)
        with pytest.raises(TokenError, match="stops"):
            await source.refresh()
        await source.close()


async def test_nothing_secret_is_shown() -> None:
    async with token_server() as server, client() as made:
        source = made.source(server.url)
        grant = await source.get()
        shown = f"{source!r} {grant!r} {grant.answer!r} {made.tokens!r}"
        assert grant.token not in shown
        assert SECRET not in shown


async def test_random_cancellations_refusals_and_refreshes_never_give_out_a_refused_token() -> None:
    randomness = random.Random(5)
    refused: set[str] = set()
    async with token_server() as server, client() as made:

        async def sometimes(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(randomness.choice((0, 0.001, 0.003)))
            return web.Response(status=503) if randomness.random() < 0.2 else server.grant(request)

        server.answer = sometimes
        source = made.source(server.url)

        async def use() -> None:
            try:
                grant = await (source.get() if randomness.random() < 0.7 else source.refresh())
            except TokenError:
                return
            assert grant.token not in refused
            if randomness.random() < 0.3:
                refuse(source, grant)

        def refuse(source: TokenSource, grant: Grant) -> None:
            refused.add(grant.token)
            source.refuse(grant)

        for _ in range(150):
            callers = [asyncio.create_task(use()) for _ in range(randomness.randrange(1, 4))]
            await asyncio.sleep(randomness.choice((0, 0, 0.001, 0.004)))
            for caller in callers:
                if randomness.random() < 0.3:
                    caller.cancel()
            outcomes = await asyncio.gather(*callers, return_exceptions=True)
            assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
        await source.close()
        await eventually(lambda: server.running == 0)
