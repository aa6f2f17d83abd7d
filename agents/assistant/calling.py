"""One request to one endpoint: its turn, its key, its answer read to the end, counted and judged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydantic_ai.messages import ModelResponse, PartEndEvent, PartStartEvent, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models import StreamedResponse

from supervisor.handler import Context, Usage

from .cleaning import cleaned
from .endpoints import Endpoint
from .fitting import Call, Fit
from .learned import Learned
from .settings import AssistantSettings, MisconfiguredError
from .shared import Shared
from .tally import Tally
from .tokens import answer_tokens, request_tokens
from .trouble import BudgetExhaustedError, Kind, TroubleError, classify
from .wire import Exchange, exchanging

#: How often a call that the budget may not suffice for looks whether those under way have ended.
PENDING_SECONDS: Final = 0.2
#: What an answer is expected to cost while it is under way, unless its own bound is lower.
USUAL_ANSWER_TOKENS: Final = 500
#: What keeps everybody from asking.
_CLOSED: Final = {Kind.RATE_LIMITED: "rate limited", Kind.BUSY: "busy, and not to be asked"}


class Caller:
    """Makes the requests of one message.

    Args:
        ends_at: when there must be an answer, by the event loop's clock.
    """

    def __init__(self, shared: Shared, ctx: Context, settings: AssistantSettings, tally: Tally, ends_at: float) -> None:
        self._shared = shared
        self._ctx = ctx
        self._chosen = settings
        self._tally = tally
        self._ends_at = ends_at
        # Those of which a stream ended without saying so: the next time it is taken for an answer.
        self._unfinished: set[Endpoint] = set()
        #: How long each of the last answer's thinking parts took, in ms.
        self.thinking_ms: list[float] = []

    @property
    def left_seconds(self) -> float:
        """How long there is still."""
        return self._ends_at - asyncio.get_running_loop().time()

    def key(self, endpoint: Endpoint) -> str:
        """The endpoint's key as it is now.

        Raises:
            TroubleError: it cannot be had.
        """
        try:
            return endpoint.key()
        except MisconfiguredError as error:
            raise TroubleError(Kind.SETUP, str(error)) from error

    async def ask(self, endpoint: Endpoint, call: Call, fit: Fit) -> ModelResponse:
        """One model call, unless its key has to wait; a token that changed meanwhile is tried at once.

        Raises:
            TroubleError: there is no answer.
            BudgetExhaustedError: there is nothing left to spend.
        """
        key = self.key(endpoint)
        try:
            return await self._with_key(endpoint, key, call, fit)
        except TroubleError as trouble:
            if trouble.kind is not Kind.KEY or (fresh := self.key(endpoint)) == key:
                raise
        return await self._with_key(endpoint, fresh, call, fit)

    async def _with_key(self, endpoint: Endpoint, key: str, call: Call, fit: Fit) -> ModelResponse:
        gate = self._shared.key_gate(endpoint, key)
        async with self._shared.slots(endpoint).one(self._chosen.parallel_calls):
            # Asked only now: it may have been closed while this call waited for its slot.
            if closed := gate.closed_seconds:
                kind = Kind(gate.why)
                raise TroubleError(kind, f"{endpoint}: {_CLOSED[kind]} for another {closed:.0f} s")
            await self._affordable()
            try:
                response = await self._read(endpoint, key, call, fit)
            except TroubleError as trouble:
                trouble.asked = True
                # One that is busy and says for how long wants its peace from all.
                if trouble.kind is Kind.RATE_LIMITED or (trouble.kind is Kind.BUSY and trouble.retry_after_seconds):
                    gate.close(trouble.retry_after_seconds, trouble.kind)
                raise
        gate.succeeded()
        return response

    async def _affordable(self) -> None:
        """Return when there is something to spend; calls under way may use up what is left, and are waited for.

        Raises:
            BudgetExhaustedError: there is nothing.
        """
        while True:
            budget = self._ctx.budget()
            if budget.exhausted:
                raise BudgetExhaustedError(budget.notice)
            if not budget.pending:
                return
            await asyncio.sleep(PENDING_SECONDS)

    async def _read(self, endpoint: Endpoint, key: str, call: Call, fit: Fit) -> ModelResponse:
        """Read one answer to its end: nothing of it is shown before, so that a stream that breaks can be repeated."""
        learned = self._shared.learned(endpoint)
        exchange = Exchange(endpoint.provider, key, endpoint.bearer, learned.streams)
        model = self._shared.model(endpoint)
        messages = model.prepare_messages(call.messages, call.parameters)
        stream: StreamedResponse | None = None
        asked = request_tokens(call.messages, call.parameters)
        answer = min(self._chosen.max_output_tokens or USUAL_ANSWER_TOKENS, USUAL_ANSWER_TOKENS)
        expected = Usage(asked, answer, endpoint.model, 0, endpoint.provider)
        timed = self._ctx.model_call(endpoint.model, provider=endpoint.provider, expected=expected)
        try:
            async with asyncio.timeout(min(self._chosen.request_seconds, self.left_seconds)):
                with timed as timing, exchanging(exchange):
                    try:
                        settings = fit.model_settings(call)
                        async with model.request_stream(messages, settings, call.parameters) as stream:
                            thinking_ms = await _events(stream)
                        response = _without_stumps(cleaned(stream.get()))
                    finally:
                        came = stream.get().parts if stream is not None else []
                        if exchange.report.given or came:
                            timing.usage = self._count(endpoint, exchange, call, came)
        except Exception as error:
            trouble = classify(error, endpoint, key)
            if trouble.kind is Kind.STRANGE:
                self._ctx.log.warning("model_answer_not_understood", exc_info=error)
            raise trouble from error
        if not exchange.report.given and not came:
            self._count(endpoint, exchange, call, came)
        if exchange.whole:
            learned.does_not_stream()
        self._check(endpoint, learned, response, call)
        self.thinking_ms = thinking_ms
        return response

    def _count(self, endpoint: Endpoint, exchange: Exchange, call: Call, came: Sequence[object]) -> Usage:
        """Count what an answer cost, also one that broke off."""
        estimate = (0, 0)
        if not exchange.report.given:
            estimate = request_tokens(call.messages, call.parameters), answer_tokens(came)
        return self._tally.count(self._ctx, endpoint, exchange.report, estimate)

    def _check(self, endpoint: Endpoint, learned: Learned, response: ModelResponse, call: Call) -> None:
        """Whether the answer is one."""
        has_content = any(not isinstance(part, TextPart) or part.content.strip() for part in response.parts)
        if response.finish_reason == "content_filter" and not has_content:
            raise TroubleError(Kind.REFUSED, f"{endpoint}: refused by its content filter")
        if response.finish_reason == "length" and not _whole(response.parts):
            raise TroubleError(Kind.LENGTH, f"{endpoint}: the answer reached its length before it said anything")
        # pydantic-ai takes the end of a stream for a reason to stop; the provider's own words are in the details.
        details = response.provider_details or {}
        reason_given = response.finish_reason == "content_filter" or bool(details.get("finish_reason"))
        if not reason_given and learned.gives_finish_reason and endpoint not in self._unfinished:
            self._unfinished.add(endpoint)
            raise TroubleError(Kind.BUSY, f"{endpoint}: the answer broke off")
        learned.ended(reason_given=reason_given)


def _without_stumps(response: ModelResponse) -> ModelResponse:
    """An answer that was cut off, without the call of a tool that it was cut off in."""
    if response.finish_reason != "length":
        return response
    parts = [part for part in response.parts if not isinstance(part, ToolCallPart) or _is_json(part.args_as_json_str())]
    return replace(response, parts=parts)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _whole(parts: Sequence[object]) -> bool:
    """Whether an answer that was cut off holds something of use."""
    return any(
        isinstance(part, ToolCallPart) or (isinstance(part, TextPart) and part.content.strip()) for part in parts
    )


async def _events(stream: StreamedResponse) -> list[float]:
    """Read a stream to its end; how long each of its thinking parts took, in ms."""
    began: dict[int, float] = {}
    took: dict[int, float] = {}
    async for event in stream:
        now = time.perf_counter()
        if isinstance(event, PartStartEvent) and isinstance(event.part, ThinkingPart):
            began.setdefault(event.index, now)
        elif isinstance(event, PartEndEvent) and event.index in began:
            took[event.index] = (now - began[event.index]) * 1000
    now = time.perf_counter()
    return [took.get(index, (now - began[index]) * 1000) for index in sorted(began)]
