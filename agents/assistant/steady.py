"""A model that gives an answer if any of its endpoints can: waits, tries again, shortens, falls back."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic_ai.messages import ModelMessage, ModelResponse, PartEndEvent, PartStartEvent, TextPart, ThinkingPart
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from supervisor.handler import Context, Usage

from .memory import half
from .settings import AssistantSettings, Endpoint, MisconfiguredError
from .shared import Shared, asking_with
from .trouble import LASTING, PASSING, BudgetExhaustedError, Kind, TroubleError, classify, health

#: The cap of the delay between two rounds over the endpoints; full jitter, from 1 s.
DELAY_CAP_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Call:
    messages: list[ModelMessage]
    settings: ModelSettings | None
    parameters: ModelRequestParameters


class SteadyModel(WrapperModel):
    """The models of one run, as one.

    Args:
        endpoints: in the order in which they are asked; one at least.
        ends_at: when there must be an answer, by the event loop's clock.
    """

    def __init__(
        self, endpoints: list[Endpoint], shared: Shared, ctx: Context, settings: AssistantSettings, ends_at: float
    ) -> None:
        super().__init__(shared.model(endpoints[0]))
        self._endpoints = endpoints
        self._shared = shared
        self._ctx = ctx
        self._chosen = settings
        self._ends_at = ends_at
        # Endpoints that are of no use to this message any more, and why.
        self._out: dict[Endpoint, TroubleError] = {}
        self._left_out = 0
        # Those of which a stream ended without saying so: some servers never say.
        self._unfinished: set[Endpoint] = set()
        #: How long each of the answer's thinking parts took, in ms.
        self.thinking_ms: list[float] = []

    # Each endpoint has its own ways with messages and settings: they are prepared when it is asked, and only then.

    def prepare_messages(
        self, messages: list[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
    ) -> list[ModelMessage]:
        return messages

    def prepare_request(
        self, model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> tuple[ModelSettings | None, ModelRequestParameters]:
        return model_settings, model_request_parameters

    def customize_request_parameters(self, model_request_parameters: ModelRequestParameters) -> ModelRequestParameters:
        return model_request_parameters

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """One step of the run.

        Raises:
            TroubleError: no endpoint answered, and none will within the message's time.
            BudgetExhaustedError: there is nothing left to spend.
        """
        call = _Call(messages, model_settings, model_request_parameters)
        rounds = 0
        while True:
            answer = await self._round(call)
            if isinstance(answer, ModelResponse):
                self._note_success()
                return answer
            if not self._usable:
                raise next(iter(self._out.values()))
            delay = self._delay_seconds(rounds)
            rounds += 1
            if delay >= self._left_seconds:
                raise answer
            await asyncio.sleep(delay)

    @property
    def _usable(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints if endpoint not in self._out]

    @property
    def _left_seconds(self) -> float:
        return self._ends_at - asyncio.get_running_loop().time()

    async def _round(self, call: _Call) -> ModelResponse | TroubleError:
        """Ask each endpoint once, until one answers; else the last one's trouble."""
        last: TroubleError | None = None
        for endpoint in self._usable:
            try:
                return await self._shortening(endpoint, call)
            except TroubleError as trouble:
                if trouble.kind is Kind.REFUSED:
                    raise
                if trouble.kind not in PASSING:
                    self._out[endpoint] = trouble
                self._ctx.log.warning("model_failed", kind=str(trouble.kind), reason=trouble.reason)
                last = trouble
        assert last is not None, "a round has an endpoint"  # noqa: S101  request() sees to it
        return last

    async def _shortening(self, endpoint: Endpoint, call: _Call) -> ModelResponse:
        try:
            return await self._ask(endpoint, call)
        except TroubleError as trouble:
            left_out = half(call.messages) if trouble.kind is Kind.TOO_LONG and not self._left_out else 0
            if not left_out:
                raise
        self._left_out = left_out
        self._ctx.log.info("history_shortened", messages=left_out, model=str(endpoint))
        return await self._ask(endpoint, call)

    async def _ask(self, endpoint: Endpoint, call: _Call) -> ModelResponse:
        """One model call, unless its key has to wait; a token that changed meanwhile is tried at once."""
        key = self._key(endpoint)
        try:
            return await self._with_key(endpoint, key, call)
        except TroubleError as trouble:
            if trouble.kind is not Kind.KEY or (fresh := self._key(endpoint)) == key:
                raise
        return await self._with_key(endpoint, fresh, call)

    def _key(self, endpoint: Endpoint) -> str:
        try:
            return endpoint.key()
        except MisconfiguredError as error:
            raise TroubleError(Kind.SETUP, str(error)) from error

    async def _with_key(self, endpoint: Endpoint, key: str, call: _Call) -> ModelResponse:
        gate = self._shared.key_gate(endpoint, key)
        async with self._shared.slots(endpoint).one(self._chosen.parallel_calls):
            # Asked only now: it may have been closed while this call waited for its slot.
            if closed := gate.closed_seconds:
                raise TroubleError(Kind.RATE_LIMITED, f"{endpoint}: rate limited for another {closed:.0f} s")
            budget = self._ctx.budget()
            if budget.exhausted:
                raise BudgetExhaustedError(budget.notice)
            try:
                response = await self._stream(endpoint, key, call)
            except TroubleError as trouble:
                if trouble.kind is Kind.RATE_LIMITED:
                    gate.close(trouble.retry_after_seconds)
                raise
        gate.succeeded()
        return response

    async def _stream(self, endpoint: Endpoint, key: str, call: _Call) -> ModelResponse:
        """Read one answer to its end: nothing of it is shown before, so that a stream that breaks can be repeated."""
        model = self._shared.model(endpoint)
        messages = model.prepare_messages(call.messages[self._left_out :], call.parameters)
        stream: StreamedResponse | None = None
        limit = asyncio.timeout(min(self._chosen.request_seconds, self._left_seconds))
        timed = self._ctx.model_call(endpoint.model, provider=endpoint.provider)
        try:
            async with limit:
                with timed as timing, asking_with(endpoint.provider, key):
                    try:
                        async with model.request_stream(messages, call.settings, call.parameters) as stream:
                            thinking_ms = await _read(stream)
                        response = stream.get()
                    finally:
                        if stream is not None:
                            timing.usage = _spent(endpoint, stream.usage)
        except Exception as error:
            if stream is not None:
                self._count(endpoint, stream.usage)
            trouble = classify(error, endpoint, key)
            if trouble.kind is Kind.STRANGE:
                self._ctx.log.warning("model_answer_not_understood", exc_info=error)
            raise trouble from error
        self._count(endpoint, response.usage)
        self._check(endpoint, response)
        self.thinking_ms = thinking_ms
        return response

    def _check(self, endpoint: Endpoint, response: ModelResponse) -> None:
        """Whether the answer is one."""
        says = any(not isinstance(part, TextPart) or part.content.strip() for part in response.parts)
        if response.finish_reason == "content_filter" and not says:
            raise TroubleError(Kind.REFUSED, f"{endpoint}: refused by its content filter")
        # pydantic-ai takes the end of a stream for a reason to stop; the provider's own words are in the details.
        said_why = response.finish_reason == "content_filter" or (response.provider_details or {}).get("finish_reason")
        if not said_why and endpoint not in self._unfinished:
            self._unfinished.add(endpoint)
            raise TroubleError(Kind.BUSY, f"{endpoint}: the answer broke off")

    def _count(self, endpoint: Endpoint, usage: RequestUsage) -> None:
        """The provider's own figures, each answer once; what a broken stream told of itself was spent as well."""
        if usage.input_tokens or usage.output_tokens:
            spent = _spent(endpoint, usage)
            self._ctx.usage(
                spent.prompt_tokens,
                spent.completion_tokens,
                model=spent.model,
                cached_tokens=spent.cached_tokens,
                provider=endpoint.provider,
            )

    def _note_success(self) -> None:
        broken = next((trouble for trouble in self._out.values() if trouble.kind in LASTING), None)
        self._ctx.note_health(None if broken is None else f"another model answers, for {health(broken)}")

    def _delay_seconds(self, rounds: int) -> float:
        """When the first of the endpoints may be asked again."""
        backoff = random.uniform(0, min(DELAY_CAP_SECONDS, 2.0**rounds))  # noqa: S311  no secret
        return min(self._shared.key_gate(e, self._key(e)).wait_seconds or backoff for e in self._usable)


def _spent(endpoint: Endpoint, usage: RequestUsage) -> Usage:
    return Usage(usage.input_tokens, usage.output_tokens, endpoint.model, usage.cache_read_tokens)


async def _read(stream: StreamedResponse) -> list[float]:
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


def request_settings(settings: AssistantSettings) -> ModelSettings:
    """What the row sets of the model's own settings."""
    chosen: dict[str, Any] = {
        "temperature": settings.temperature,
        "max_tokens": settings.max_output_tokens,
        "thinking": settings.thinking,
    }
    return cast("ModelSettings", {name: value for name, value in chosen.items() if value is not None})
