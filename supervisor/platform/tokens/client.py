"""Asks the platform for access tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec

from supervisor.core.clock import Clock, Instant
from supervisor.core.errors import PlatformError, SupervisorError, TokenError, Verdict
from supervisor.net import mask_secret
from supervisor.platform.hosts.api import Answer, PlatformApi, endpoint_url
from supervisor.platform.hosts.facts import HostFacts, TokenForm
from supervisor.platform.hosts.gates import LONGEST_PASS_SECONDS, Gates
from supervisor.platform.tokens.answers import read_connect
from supervisor.platform.tokens.grants import Grant, make_grant, with_token
from supervisor.protocol.answers import ConnectAnswer

_ANSWER_BYTES: Final = 1024 * 1024
_OUTCOMES: Final = {Verdict.REJECT: "rejected", Verdict.FAULT: "fault"}
_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}


class TokenClient:
    """Asks the platform for tokens, for all agents.

    A request costs the platform a bcrypt check, so each host gets a bounded number at once and a second.

    Args:
        api: makes the requests.
        gates: the bounds of all hosts; each host has its own, so that one that hangs holds up no other.
        clock: when a token's life begins.
        facts: what is known of the hosts; learns in which form each host wants to be asked.
        refresh_margin_seconds: how long before its end a token is renewed.
        uniform: draws between two bounds; tests give their own.
        on_outcome: told how each request ended: ``ok``, ``rejected``, ``retry`` or ``fault``.
    """

    def __init__(
        self,
        api: PlatformApi,
        gates: Gates,
        *,
        clock: Clock,
        facts: HostFacts,
        refresh_margin_seconds: float = 300.0,
        uniform: Callable[[float, float], float] = random.uniform,
        on_outcome: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self._api = api
        self._gates = gates
        self._clock = clock
        self._facts = facts
        self._margin = refresh_margin_seconds
        self._uniform = uniform
        self._on_outcome = on_outcome

    async def fetch(self, agent_id: str, api_url: str, secret: str, *, proxy: str | None = None) -> Grant:
        """Ask for a token.

        Args:
            agent_id: the agent's id.
            api_url: the platform's API, such as ``https://api.x-or.cloud/dev/aiwm``.
            secret: the agent's secret; it goes nowhere but into the request's body.
            proxy: an HTTP proxy's URL; it may hold a user and a password.

        Raises:
            TokenError: with the verdict that the answer asks for (docs/protocol.md#1-tokens); neither secret nor token
                is in its reason.
        """
        failure: TokenError | None = None
        try:
            grant = await self._fetch(agent_id, api_url, secret, proxy)
        except PlatformError as error:
            failure = TokenError(
                mask_secret(error.reason, secret),
                error.verdict,
                retry_after_seconds=error.retry_after_seconds,
                refusal=error.refusal,
            )
        if failure is not None:
            self._on_outcome(_OUTCOMES.get(failure.verdict, "retry"))
            raise failure
        self._on_outcome("ok")
        return grant

    def renewed(self, grant: Grant, token: str) -> Grant:
        """``grant`` with another token, which says itself how long it lives.

        Raises:
            TokenError: it has ended already.
        """
        return make_grant(with_token(grant.answer, token), Instant.now(self._clock), self._margin, self._uniform)

    def resumed(self, answer: ConnectAnswer, age_seconds: float) -> Grant:
        """What somebody else asked for so long ago.

        Raises:
            TokenError: its token has ended.
        """
        now = Instant.now(self._clock)
        asked = Instant(now.wall - age_seconds, now.monotonic - age_seconds)
        return make_grant(answer, asked, self._margin, self._uniform)

    async def _fetch(self, agent_id: str, api_url: str, secret: str, proxy: str | None) -> Grant:
        if not secret:
            raise TokenError("the agent's secret is empty", Verdict.FAULT)
        facts = self._facts.api(endpoint_url(api_url, "agents").authority)
        first = facts.token_form
        answer, asked = await self._ask(first, agent_id, api_url, secret, proxy)
        if answer.no_endpoint:
            # Old platforms know one form, later ones may only know the other.
            other = TokenForm.BODY if first is TokenForm.PATH else TokenForm.PATH
            again, asked_again = await self._ask(other, agent_id, api_url, secret, proxy)
            if not again.no_endpoint:
                facts.token_form, answer, asked = other, again, asked_again
        connected = read_connect(answer, agent_id, endpoint_known=api_url in facts.gave_tokens)
        facts.gave_tokens.add(api_url)
        return make_grant(connected, asked, self._margin, self._uniform)

    async def _ask(
        self, form: TokenForm, agent_id: str, api_url: str, secret: str, proxy: str | None
    ) -> tuple[Answer, Instant]:
        """Make one token request, when the host's gate lets it through; its answer, and when it was made."""
        # The id is checked as a part of the path even where it goes into the body.
        url, content = endpoint_url(api_url, "agents", agent_id, "connect"), {"secret": secret}
        if form is TokenForm.BODY:
            url, content = endpoint_url(api_url, "agents", "connect"), {"id": agent_id, "secret": secret}
        try:
            body = msgspec.json.encode(content)
        except UnicodeEncodeError:
            raise TokenError("the agent's secret is not text", Verdict.FAULT) from None
        host = url.host or ""

        async def request() -> tuple[Answer, Instant]:
            # A token's life begins before its answer is here: counted from then it would be used after its end.
            asked = Instant.now(self._clock)
            answer = await self._api.request(
                "POST", url, limit_bytes=_ANSWER_BYTES, proxy=proxy, data=body, headers=_JSON
            )
            return answer, asked

        try:
            return await self._gates.of(host).request_token(request, timeout=self._api.timeout_seconds)
        except TimeoutError:
            raise TokenError(f"no turn for a token request to {host} within {LONGEST_PASS_SECONDS:g} s") from None
        except SupervisorError as error:
            # The pool is closed, because the supervisor stops.
            raise error if isinstance(error, PlatformError) else TokenError(str(error)) from None
