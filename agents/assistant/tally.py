"""What one message has cost so far, and how far it may go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.handler import Context, Usage

from .endpoints import Endpoint
from .settings import AssistantSettings
from .wire import Report


class TooManyStepsError(Exception):
    """The model took all the steps that it may for one message, and did not come to an end."""


@dataclass(slots=True)
class Tally:
    """The requests and tokens of one message.

    Attributes:
        steps: answers that the model was asked for, continuations among them.
        failures: requests that came to nothing, of whatever endpoint.
        tokens: input and output together.
        estimated: whether some of them are an estimate, for a server told none.
    """

    settings: AssistantSettings
    steps: int = 0
    failures: int = 0
    tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    def step(self) -> None:
        """The model is asked for another answer.

        Raises:
            TooManyStepsError: it had its last one.
        """
        if self.steps >= self.settings.max_steps:
            raise TooManyStepsError
        self.steps += 1

    def is_last(self, next_tokens: Callable[[], int]) -> bool:
        """Whether the step under way has to be the last.

        Args:
            next_tokens: tells about how much it will be given.
        """
        if self.steps >= self.settings.max_steps:
            return True
        budget = self.settings.budget_message_tokens
        return budget is not None and self.steps > 1 and self.tokens + next_tokens() > budget

    def fail(self) -> bool:
        """A request came to nothing; whether another may be made."""
        self.failures += 1
        return self.failures <= self.settings.retries

    def count(self, ctx: Context, endpoint: Endpoint, report: Report, estimate: tuple[int, int]) -> Usage:
        """Count one answer, whole or broken off, once.

        Args:
            estimate: tokens of the question and of what came, for a server that tells none.
        """
        if report.given:
            figures = report.prompt, report.completion, endpoint.model, report.cached, endpoint.provider
            usage = Usage(*figures, report.reasoning)
        else:
            usage = Usage(*estimate, endpoint.model, 0, endpoint.provider, estimated=True)
            self.estimated = True
        self.tokens += usage.total_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        ctx.usage(
            usage.prompt_tokens,
            usage.completion_tokens,
            model=usage.model,
            cached_tokens=usage.cached_tokens,
            provider=usage.provider,
            reasoning_tokens=usage.reasoning_tokens,
            estimated=usage.estimated,
        )
        return usage

    @property
    def remarks(self) -> dict[str, object]:
        """What the platform's own fields have no place for, for the reply's metadata."""
        found: dict[str, object] = {}
        if self.estimated:
            found["estimated"] = True
        if self.reasoning_tokens:
            found["reasoningTokens"] = self.reasoning_tokens
        return found
