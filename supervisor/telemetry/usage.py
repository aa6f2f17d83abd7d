"""What language models used, made fit to be counted: for the day's sums, for metrics and for traces."""

from __future__ import annotations

import math
from typing import Final

from supervisor.handler import Usage
from supervisor.protocol.text import clean_text

MAX_MODEL_CHARS: Final = 128
#: More in one report is no figure of a provider's; the sums stay far below what the database can hold.
MAX_TOKENS: Final = 10**12


def cleaned(usage: Usage) -> Usage:
    """Usage as it may be counted, whatever a handler reports: a NaN or a minus would spoil a sum for good."""
    prompt = _tokens(usage.prompt_tokens)
    model = clean_text(str(usage.model), MAX_MODEL_CHARS)[0].strip() or "unknown"
    provider = clean_text(str(usage.provider), MAX_MODEL_CHARS)[0].strip() or "unknown"
    completion = _tokens(usage.completion_tokens)
    cached, reasoning = min(prompt, _tokens(usage.cached_tokens)), min(completion, _tokens(usage.reasoning_tokens))
    return Usage(prompt, completion, model, cached, provider, reasoning, bool(usage.estimated))


def _tokens(count: object) -> int:
    if not isinstance(count, int | float) or not 0 < count < math.inf:
        return 0
    return min(int(count), MAX_TOKENS)
