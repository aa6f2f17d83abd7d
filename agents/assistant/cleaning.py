"""What a model wrote, made fit to be read and sent on: whole characters, no control codes, thinking apart from text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

#: What the client takes for thinking by itself; nothing, for it knows only tags that come alone in a chunk.
NO_TAGS: Final = ("\0", "\0")

_HALVES: Final = re.compile("[\ud800-\udfff]")
_ESCAPED_HALVES: Final = re.compile(r"\\u[dD][89a-fA-F]")
#: C0 and C1 but for newline and tab, and the two overrides of direction, which make text read as what it is not. Marks,
#: embeddings and isolates stay: languages that are written from right to left need them.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]")
_NAMES: Final = r"(?:seed:|ant)?think(?:ing)?|thoughts?|reasoning"
#: How models mark what they think: <think>, [THINK], ◁think▷, <|begin_of_thought|>, and the channels of gpt-oss.
_OPEN: Final = re.compile(
    rf"<\s*(?:{_NAMES})(?:\s[^<>]*)?>|\[(?:THINK|THINKING)\]|◁\s*think\s*▷|<\|(?:begin_of_|start_)(?:thought|thinking)\|>"
    r"|<\|channel\|>\s*(?:analysis|commentary)[^<]*<\|message\|>",
    re.IGNORECASE,
)
_CLOSE: Final = re.compile(
    rf"<\s*/\s*(?:{_NAMES})\s*>|\[/(?:THINK|THINKING)\]|◁\s*/\s*think\s*▷|<\|end_(?:of_)?(?:thought|thinking)\|>"
    r"|<\|end\|>(?:\s*<\|start\|>\s*assistant)?(?:\s*<\|channel\|>\s*final[^<]*<\|message\|>)?",
    re.IGNORECASE,
)
#: Where tags are only spoken of: code.
_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def whole_characters(text: str) -> str:
    """Text with the halves of characters joined that came apart; one whose other half never came is marked."""
    if _HALVES.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def readable(text: str) -> str:
    """Text of whole characters, without those that control what shows it but for newline and tab."""
    return _CONTROLS.sub("", whole_characters(text).replace("\r\n", "\n").replace("\r", "\n"))


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """What JSON can hold with each of its texts changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [each_text(item, change) for item in value]
        case dict():
            return {each_text(name, change): each_text(item, change) for name, item in value.items()}
    return value


def whole_json(text: str) -> str:
    """JSON with the characters of its texts whole; what is none as :func:`whole_characters` has it."""
    if _HALVES.search(text) is None and _ESCAPED_HALVES.search(text) is None:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return whole_characters(text)
    return json.dumps(each_text(value, whole_characters), ensure_ascii=False)


def cleaned(response: ModelResponse) -> ModelResponse:
    """An answer with all its parts clean, and what it thinks in parts of its own."""
    parts = [clean for part in _joined(response.parts) for clean in _parts(part)]
    return replace(response, parts=parts)


def _joined(parts: Any) -> Iterator[Any]:
    """Parts, with text that follows on text as one: a tag may begin in one and end in the other."""
    pending: TextPart | None = None
    for part in parts:
        if type(part) is TextPart and pending is not None:
            pending = replace(pending, content=pending.content + part.content)
            continue
        if pending is not None:
            yield pending
        pending = part if type(part) is TextPart else None
        if pending is None:
            yield part
    if pending is not None:
        yield pending


def _parts(part: Any) -> Iterator[Any]:
    match part:
        case TextPart():
            pieces = list(apart(readable(part.content)))
            if len(pieces) == 1 and not pieces[0][0]:
                yield replace(part, content=pieces[0][1])
                return
            for thought, text in pieces:
                # Without the provider's name: it did not give it as thinking, and is not given it back.
                yield ThinkingPart(content=text) if thought else TextPart(content=text)
        case ThinkingPart():
            # With a signature it has to go back as it came; half a character nobody can send.
            clean = whole_characters if part.signature else readable
            yield replace(part, content=clean(part.content))
        case ToolCallPart():
            args = part.args
            yield replace(part, args=whole_json(args) if isinstance(args, str) else each_text(args, whole_characters))
        case _:
            yield part


def apart(text: str) -> Iterator[tuple[bool, str]]:
    """Text in pieces, each with whether it is thinking; blank ones are left out, unless there is nothing else."""
    code = [match.span() for match in _CODE.finditer(text)]
    pieces = [piece for piece in _pieces(text, code) if piece[1].strip()]
    yield from pieces or [(False, text)]


def _pieces(text: str, code: list[tuple[int, int]]) -> Iterator[tuple[bool, str]]:
    position = 0
    opened, closed = _next(_OPEN, text, 0, code), _next(_CLOSE, text, 0, code)
    if closed is not None and (opened is None or closed.start() < opened.start()) and _may_be_open(closed):
        # The template of some models has opened it already.
        yield True, text[: closed.start()]
        position = closed.end()
    while (opened := _next(_OPEN, text, position, code)) is not None:
        yield False, text[position : opened.start()]
        # What is thought may hold code of its own, or begin some and never end it.
        closed = _CLOSE.search(text, opened.end())
        if closed is None:
            yield True, text[opened.end() :]
            return
        yield True, text[opened.end() : closed.start()]
        position = closed.end()
    yield False, text[position:]


def _may_be_open(closed: re.Match[str]) -> bool:
    """Whether a tag closes what the model's template opens; others' names are words of other languages too."""
    return "think" in closed[0].lower()


def _next(pattern: re.Pattern[str], text: str, start: int, code: list[tuple[int, int]]) -> re.Match[str] | None:
    for match in pattern.finditer(text, start):
        if not any(begin <= match.start() < end for begin, end in code):
            return match
    return None
