"""What models cost and may cost, as handlers report and see it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer cost.

    ``model`` names the series it is counted in, with ``provider``, who served it: ``openai``, ``anthropic``, …;
    ``cached_tokens`` are part of ``prompt_tokens``, ``reasoning_tokens`` of ``completion_tokens``. ``estimated``: the
    server that was asked reported nothing, and the figures are a guess.
    """

    prompt_tokens: int
    completion_tokens: int
    model: str = "unknown"
    cached_tokens: int = 0
    provider: str = "unknown"
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Budget:
    """What an agent may still spend today (UTC).

    Args:
        exhausted: make no model call; answer with ``notice``.
        notice: words for the person, empty while there is something left.
        spent_tokens, limit_tokens: input and output together; None: no limit.
        spent_cost, limit_cost: in the currency of the configured prices; None: no limit.
        pending: what calls under way are expected to cost may be the rest of it: wait for them, then ask again.
    """

    exhausted: bool
    notice: str
    spent_tokens: int
    limit_tokens: int | None
    spent_cost: float
    limit_cost: float | None
    pending: bool = False


@dataclass(slots=True)
class ModelCall:
    """A model call under way; set ``model`` to the model that answered where that is another one.

    ``usage`` is what it cost, for its span in the message's trace; ``ctx.usage()`` counts it.
    """

    model: str
    usage: Usage | None = None
