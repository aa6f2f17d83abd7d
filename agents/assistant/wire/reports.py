"""What an answer says of the tokens that it cost, in whichever dialect. Pure, no I/O.

A stream may say it once at its end, in every chunk as a sum so far, in the chunk that ends the text and once more after
it, or not at all. So a later figure replaces an earlier one, and a later zero does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: A line without any of these says nothing of tokens, and need not be read.
_MARKS: Final = (b"usage", b"timings")
#: Anthropic's events in which its client wants usage.
_COUNTING: Final = (b'"message_start"', b'"message_delta"')
_PROMPT: Final = ("prompt_tokens", "input_tokens", "promptTokenCount")
_COMPLETION: Final = ("completion_tokens", "output_tokens", "candidatesTokenCount")
_TOTAL: Final = ("total_tokens", "totalTokenCount")
_CACHED: Final = (
    "cached_tokens",
    "cache_read_input_tokens",
    "prompt_cache_hit_tokens",
    "cachedContentTokenCount",
)
_WRITTEN: Final = ("cache_creation_input_tokens",)
_REASONING: Final = ("reasoning_tokens", "thoughtsTokenCount")
_TOOL_PROMPT: Final = ("toolUsePromptTokenCount",)
_DETAILS: Final = (
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
)
_FIGURES: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": _PROMPT,
    "completion": _COMPLETION,
    "total": _TOTAL,
    "cached": _CACHED,
    "written": _WRITTEN,
    "reasoning": _REASONING,
    "tool_prompt": _TOOL_PROMPT,
}


def may_report(line: bytes) -> bool:
    """Whether a line of a stream may say something of tokens."""
    return any(mark in line for mark in _MARKS)


def wants_usage(line: bytes) -> bool:
    """Whether a line of Anthropic's stream may be an event that has to say something of tokens."""
    return any(mark in line for mark in _COUNTING)


def with_usage(event: Any) -> bool:
    """Put zeros, in place, where a gateway left out the usage that Anthropic's client reads; whether that was so."""
    if not isinstance(event, dict):
        return False
    place = event.get("message") if event.get("type") == "message_start" else event
    if not isinstance(place, dict) or isinstance(place.get("usage"), dict):
        return False
    place["usage"] = {"input_tokens": 0, "output_tokens": 0}
    return True


@dataclass(slots=True)
class Report:
    """The tokens of one answer, as far as it has told of them.

    ``cached`` are part of ``prompt``, ``reasoning`` of ``completion``, whatever the dialect.
    """

    provider: str
    _figures: dict[str, int] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether the answer told anything."""
        return any(self._figures.values())

    @property
    def prompt(self) -> int:
        """All that the model was given, cached or not."""
        figures = self._figures
        told, cached = figures.get("prompt", 0), figures.get("cached", 0)
        if self.provider == "anthropic":
            # It counts what comes from its cache, or goes there, apart.
            told += cached + figures.get("written", 0)
        elif cached > told:
            # So does a gateway that passes its figures on.
            told += cached
        return told + figures.get("tool_prompt", 0)

    @property
    def cached(self) -> int:
        """What of it came from the provider's cache."""
        return min(self._figures.get("cached", 0), self.prompt)

    @property
    def completion(self) -> int:
        """All that the model made."""
        made = self._figures.get("completion", 0)
        if self.provider == "google":
            # It counts thinking beside the answer.
            return made + self._figures.get("reasoning", 0)
        # So do some that speak OpenAI's language, a few without a word on it: the sum tells.
        return max(made, self._figures.get("total", 0) - self.prompt)

    @property
    def reasoning(self) -> int:
        """What of it nobody reads as text."""
        thought = self._figures.get("reasoning", 0)
        return min(max(thought, self.completion - self._figures.get("completion", 0)), self.completion)

    def read(self, event: Any) -> None:
        """Take up what one event, or a whole answer, says."""
        if not isinstance(event, dict):
            return
        for usage in _usages(event):
            for name, spellings in _FIGURES.items():
                count = _figure(usage, spellings)
                if count is not None and (count or name not in self._figures):
                    self._figures[name] = count


def _usages(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The objects that count, wherever servers put them."""
    message, choices = event.get("message"), event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    places: list[Any] = [event.get("x_groq"), choice, message, event]
    found = [place.get("usage") for place in places if isinstance(place, dict)]
    found.append(event.get("usageMetadata"))
    if not any(isinstance(usage, dict) and usage for usage in found):
        found.append(_timings(event.get("timings")))
    return [usage for usage in found if isinstance(usage, dict)]


def _timings(timings: Any) -> Mapping[str, Any] | None:
    """llama.cpp's figures, where an old one gives no usage: ``prompt_n`` is without what its cache had."""
    if not isinstance(timings, dict):
        return None
    cached = _count(timings.get("cache_n")) or 0
    prompt = _count(timings.get("prompt_n"))
    made = _count(timings.get("predicted_n"))
    given = None if prompt is None else prompt + cached
    return {"prompt_tokens": given, "completion_tokens": made, "cached_tokens": cached}


def _figure(usage: Mapping[str, Any], spellings: tuple[str, ...]) -> int | None:
    places = [usage, *(details for name in _DETAILS if isinstance(details := usage.get(name), dict))]
    counts = (_count(place.get(name)) for name in spellings for place in places)
    return next((count for count in counts if count is not None), None)


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return int(value)
