"""What providers' refusals are about, in their own words. Pure, no I/O.

No two of them say the same, and gateways wrap what they pass on: words are looked for, not codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_TOO_LONG: Final = re.compile(
    r"context[ _]?(?:length|window|size|limit)"
    r"|max(?:imum)?[ _](?:context|prompt|input|model)[ _]?(?:length|len|tokens|size)"
    r"|exceed_context|model_context_window|n_ctx"
    r"|(?:prompt|input|request|conversation|messages?) (?:is |are |was |were )?too (?:long|large)"
    r"|too many (?:input )?tokens(?! per)|token count.{0,40}exceed|exceed.{0,60}(?:number of|max\w*) (?:input )?tokens"
    r"|model token limit|(?:input|prompt) length.{0,30}exceed|input length should be|prompt exceeds|`inputs` tokens \+"
    r"|input tokens exceed|reduce the (?:length|size)|longer than the model|length of the (?:prompt|messages)"
    r"|(?:entity|payload) too large|string_above_max_length",
    re.IGNORECASE | re.DOTALL,
)
_FILTERED: Final = re.compile(
    r"content[ _]?policy[ _]?violation|content management policy|content[ _]filter|by our safety system"
    r"|result of our safety system",
    re.IGNORECASE,
)
#: Figures of a limit, the most certain first: "198309 + 8192 > 200000", "n_ctx": 4096, "maximum … length is 8192".
_LIMITS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r">\s*(\d[\d,_]*)",
        r"must be <=\s*(\d[\d,_]*)",
        r"should be \[\d+, ?(\d+)\]",
        r"n_ctx\D{1,4}(\d[\d,_]*)",
        r"max(?:imum)?[ _](?:context|prompt|input|model|allowed)?[ _]?(?:length|len|tokens|size|window)"
        r"\D{0,30}?(\d[\d,_]*)",
        r"context[ _](?:length|window|size|limit)\D{0,30}?(\d[\d,_]*)",
        r"(?:maximum|limit|at most|up to)\D{0,50}?(\d[\d,_]*)",
    )
)
#: MiniMax's number for the refusal stands where others have their limit.
_NO_LIMIT: Final = re.compile(r"exceeds limit \(\d+\)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d[\d,_]*")
#: Below and above these no figure is a model's limit of tokens.
_LEAST_LIMIT: Final = 256
_GREATEST_LIMIT: Final = 100_000_000

_STREAM: Final = re.compile(r"\bstream", re.IGNORECASE)
_MEDIA: Final = re.compile(
    r"image|vision|multi-?modal|modalit|media|\bpdf\b|document|\bfiles?\b|content (?:type|part|block)"
    r"|content must be a string|content.{0,20}expected (?:a )?(?:string|str)",
    re.IGNORECASE,
)
#: What tells a model that sees nothing from a file that is broken or too large.
_BLIND: Final = re.compile(
    r"(?:not|n't|only)(?: currently| yet)? support|that support|support\w* (?:for )?(?:image|vision|document|file|pdf)"
    r"|not (?:a |an )?(?:vision|multi-?modal)|not (?:enabled|allowed|available)|at most 0|unknown variant"
    r"|must be a string|expected (?:a )?str|missing data required|mmproj",
    re.IGNORECASE,
)
_IMAGE: Final = re.compile(r"image|vision|multi-?modal|mmproj", re.IGNORECASE)
_DOCUMENT: Final = re.compile(r"\bpdf\b|document|\bfiles?\b", re.IGNORECASE)
_TOOLS: Final = re.compile(r"\btools?\b|function|input_schema|parameters", re.IGNORECASE)
_TOOLLESS: Final = re.compile(r"tools? param requires|not support (?:tools?|function)|that support tool", re.IGNORECASE)
_TOO_MANY: Final = re.compile(r"too (?:long|many|large)|maximum|at most|up to|exceed|limit", re.IGNORECASE)
_MOST: Final = re.compile(r"(?:max\w*|at most|up to|limit\w*|exceed\w*|allow\w*)\D{0,40}?(\d+)", re.IGNORECASE)
_INDEX: Final = re.compile(r"(?:tools|function_?declarations?)\W{1,2}(\d+)", re.IGNORECASE)
#: The spellings that refusals use of the settings that we know under one name.
_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxoutputtokens"),
    "thinking": ("thinking", "reasoning", "reasoning_effort", "thinkingconfig", "budget_tokens"),
    "cache": ("cache_control", "prompt caching", "prompt_cache"),
    "tool_choice": ("tool_choice", "toolconfig", "tool choice"),
    "stop_sequences": ("stop_sequences", "stopsequences", "stop"),
    "presence_penalty": ("presence_penalty", "presencepenalty", "penalty"),
    "frequency_penalty": ("frequency_penalty", "frequencypenalty", "penalty"),
}
#: What the client's own name of a setting begins with, and the provider's does not.
_PREFIX: Final = re.compile(r"(?:openai|anthropic|google)_")


def is_too_long(text: str) -> bool:
    """Whether a refusal says that there is more than the model can take in."""
    return _TOO_LONG.search(text) is not None


def is_filtered(text: str) -> bool:
    """Whether a refusal says that a content filter keeps it back; gateways pass on the words, and no code."""
    return _FILTERED.search(text) is not None


def limits_in(text: str) -> tuple[int | None, int | None]:
    """The model's limit and what was asked of it, in its tokens, as far as the refusal tells."""
    text = _NO_LIMIT.sub("", text)
    limit = next((number for pattern in _LIMITS if (number := _figure(pattern, text)) is not None), None)
    if limit is None:
        return None, None
    numbers = (int(found.translate(_PLAIN)) for found in _NUMBER.findall(text))
    return limit, next((number for number in numbers if limit < number <= _GREATEST_LIMIT), None)


_PLAIN: Final = str.maketrans("", "", ",_")


def _figure(pattern: re.Pattern[str], text: str) -> int | None:
    for found in pattern.findall(text):
        number = int(found.translate(_PLAIN))
        if _LEAST_LIMIT <= number <= _GREATEST_LIMIT:
            return number
    return None


def is_about_streaming(text: str) -> bool:
    """Whether the server does not stream, or not so."""
    return _STREAM.search(text) is not None


def is_about_media(text: str) -> bool:
    """Whether it is about images or documents."""
    return _MEDIA.search(text) is not None


def blind_to(text: str, sent: frozenset[str]) -> frozenset[str]:
    """The kinds of the files that were sent which a refusal says the model never takes.

    Args:
        sent: of ``image`` and ``document``.
    """
    if not _BLIND.search(text):
        return frozenset()
    named = {kind for kind, words in (("image", _IMAGE), ("document", _DOCUMENT)) if words.search(text)}
    return sent & named or sent


def is_about_tools(text: str) -> bool:
    """Whether it is about tools in general."""
    return _TOOLS.search(text) is not None


def says_toolless(text: str) -> bool:
    """Whether it says that no tools are taken at all."""
    return _TOOLLESS.search(text) is not None


def settings_in(text: str, sent: Iterable[str]) -> list[str]:
    """Those of the settings that were sent which a refusal names."""
    lowered = text.lower()
    return [name for name in sent if any(_mentions(lowered, word) for word in _spellings(name))]


def _spellings(name: str) -> tuple[str, ...]:
    bare = _PREFIX.sub("", name.lower(), count=1)
    return _SPELLINGS.get(name, (name.lower(), bare, bare.replace("_", "")))


def _mentions(text: str, word: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) is not None


def tools_in(text: str, offered: list[str]) -> list[str]:
    """Those of the offered tools that a refusal names, or points at by their place."""
    named = [name for name in offered if _mentions_name(text, name)]
    if named:
        return named
    places = [int(found) for found in _INDEX.findall(text)]
    return [offered[place] for place in places[:1] if place < len(offered)]


def _mentions_name(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def most_tools_in(text: str, offered: int) -> int | None:
    """How many tools the provider takes, where that is what it refuses; half as many where it gives no figure."""
    if not is_about_tools(text) or not _TOO_MANY.search(text):
        return None
    most = [number for found in _MOST.findall(text) if 0 < (number := int(found[:9])) < offered]
    if most:
        return most[0]
    return offered // 2 if re.search(r"too (?:long|many)", text, re.IGNORECASE) and offered > 1 else None
