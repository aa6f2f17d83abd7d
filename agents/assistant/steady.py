"""A model that gives an answer if any of its endpoints can: waits, tries again, mends what is refused, falls back."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any, Final, cast

from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from supervisor.handler import Context

from .calling import Caller
from .endpoints import Endpoint
from .fitting import Call, Fit
from .settings import AssistantSettings
from .shared import Shared
from .tally import Tally
from .tokens import request_tokens
from .trouble import LASTING, PASSING, Kind, TroubleError, health

#: The cap of the delay between two rounds over the endpoints; full jitter, from 1 s.
DELAY_CAP_SECONDS: Final = 30.0


class SteadyModel(WrapperModel):
    """The models of one run, as one.

    Args:
        endpoints: in the order in which they are asked; one at least.
        earlier: what was said before this run, which need not know of it: it would look through all of it at each step.
    """

    def __init__(
        self,
        endpoints: list[Endpoint],
        earlier: list[ModelMessage],
        shared: Shared,
        ctx: Context,
        caller: Caller,
        tally: Tally,
    ) -> None:
        super().__init__(shared.model(endpoints[0]))
        self._earlier = earlier
        self._endpoints = endpoints
        self._shared = shared
        self._ctx = ctx
        self._caller = caller
        self._tally = tally
        most = tally.settings.max_output_tokens
        self._fits = {endpoint: Fit(endpoint, shared.learned(endpoint), most) for endpoint in endpoints}
        # Endpoints that are of no use to this message any more, and why.
        self._out: dict[Endpoint, TroubleError] = {}
        # That of the endpoint that answered last.
        self._fit: Fit | None = None

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

    @property
    def thinking_ms(self) -> list[float]:
        """How long each of the last answer's thinking parts took, in ms."""
        return self._caller.thinking_ms

    @property
    def left_out(self) -> int:
        """How many messages of people were left out of what was said before, for the model that answered last."""
        return self._fit.left_out if self._fit else 0

    @property
    def remarks(self) -> list[str]:
        """What is wrong though there was an answer, for the agent's health; the worst first."""
        broken = next((trouble for trouble in self._out.values() if trouble.kind in LASTING), None)
        said = [] if broken is None else [f"another model answers, for {health(broken)}"]
        return said + [remark for fit in self._fits.values() for remark in fit.remarks]

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
            TooManyStepsError: the run had its last step.
        """
        self._tally.step()
        messages = [*self._earlier, *messages]
        call = Call(messages, dict(model_settings or {}), model_request_parameters)
        if self._tally.is_last(lambda: request_tokens(messages, model_request_parameters)):
            call = replace(call, last=True)
        rounds = 0
        while True:
            answer = await self._round(call)
            if isinstance(answer, ModelResponse):
                return _final(answer) if call.last else answer
            if not self._usable:
                raise next(iter(self._out.values()))
            delay = self._delay_seconds(rounds)
            rounds += 1
            if delay >= self._caller.left_seconds:
                raise answer
            await asyncio.sleep(delay)

    @property
    def _usable(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints if endpoint not in self._out]

    async def _round(self, call: Call) -> ModelResponse | TroubleError:
        """Ask each endpoint once, until one answers; else the last one's trouble.

        Raises:
            TroubleError: nobody shall be asked again.
        """
        last: TroubleError | None = None
        for endpoint in self._usable:
            try:
                return await self._mending(endpoint, call)
            except TroubleError as trouble:
                self._ctx.log.warning("model_failed", kind=str(trouble.kind), reason=trouble.reason)
                if trouble.kind is Kind.REFUSED or (trouble.asked and not self._tally.fail()):
                    raise
                if trouble.kind not in PASSING:
                    self._out[endpoint] = trouble
                last = trouble
        assert last is not None, "a round has an endpoint"  # noqa: S101  request() sees to it
        return last

    async def _mending(self, endpoint: Endpoint, call: Call) -> ModelResponse:
        """Ask one endpoint, again with what it refuses mended, as long as there is something to mend."""
        fit = self._fits[endpoint]
        while True:
            fitted = fit.apply(call)
            try:
                response = await self._caller.ask(endpoint, fitted, fit)
            except TroubleError as trouble:
                mended = fit.mend(trouble, fitted)
                if mended is None or not self._tally.fail():
                    raise
                self._ctx.log.info("request_mended", what=mended, reason=trouble.reason)
            else:
                fit.succeeded()
                self._fit = fit
                return response

    def _delay_seconds(self, rounds: int) -> float:
        """When the first of the endpoints may be asked again."""
        backoff = random.uniform(0, min(DELAY_CAP_SECONDS, 2.0**rounds))  # noqa: S311  no secret
        gates = (self._shared.key_gate(endpoint, self._caller.key(endpoint)) for endpoint in self._usable)
        return min(gate.wait_seconds or backoff for gate in gates)


def _final(answer: ModelResponse) -> ModelResponse:
    """The answer of the last step: what it wants of tools nobody does, nor is it continued."""
    parts = [part for part in answer.parts if not isinstance(part, ToolCallPart)]
    return replace(answer, parts=parts, state="complete")


def request_settings(settings: AssistantSettings) -> ModelSettings:
    """What the row sets of the model's own settings."""
    chosen: dict[str, Any] = {
        "temperature": settings.temperature,
        "max_tokens": settings.max_output_tokens,
        "thinking": settings.thinking,
        # Where the provider has to be asked for it; others cache by themselves, or not at all.
        "cache": settings.model_settings.get("cache", True),
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return cast("ModelSettings", settings.model_settings | given)
