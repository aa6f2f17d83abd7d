"""What the model is shown of the conversation: the newest messages that fit, whole, and always those to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from supervisor.handler import HistoryItem, Message, Remembered

from .cleaning import whole_characters
from .prompt import NO_FILES, Files, by, prompt, words
from .tokens import plain_message_tokens
from .trouble import NOTICES


class SummaryPart(UserPromptPart):
    """What stands for the beginning of the conversation: the last thing of it that a request does without."""


_SUMMARY: Final = "[Your own notes on what was said before this:]"


@dataclass(frozen=True, slots=True)
class Past:
    """The conversation before the message to answer.

    Args:
        messages: as the model is shown it; what is to be answered together with the message stands at the end.
        known: what stands for the beginning of it.
        cut: what is neither in that nor shown, oldest first.
        shown: what is shown, oldest first, but for what is to be answered.
    """

    messages: list[ModelMessage]
    known: Remembered | None
    cut: list[HistoryItem]
    shown: list[HistoryItem]


def earlier(
    items: Sequence[HistoryItem],
    message: Message,
    limit_tokens: int,
    files: Files = NO_FILES,
    *,
    most: int | None = None,
    known: Remembered | None = None,
) -> Past:
    """The conversation before ``message``, as far as it fits into ``limit_tokens`` together with it.

    What is to be answered together with it stands at the end, whatever its size.

    Args:
        items: the journal's and the platform's history, oldest first; ``message`` is among them.
        files: what is shown of files; they leave the conversation its room.
        most: how many of the items are shown; None: all.
        known: stands in place of the first of them, unless ``message`` is among what it stands for: it is replayed.
    """
    if known and not (items and (items[-1].id or 0) > known.up_to_id):
        known = None
    end = len(items)
    for one in (message, *reversed(message.earlier)):
        end = next((n for n in range(end - 1, -1, -1) if _is(items[n], one)), end)
    begin = len(items) - len(known.behind(items)) if known else 0
    first = 0 if most is None else len(items) - most
    spoken = [(n, item) for n, item in enumerate(items[:end]) if n >= begin and _is_said(item)]
    left = limit_tokens - sum(map(plain_message_tokens, [*map(words, message.earlier), message.content]))
    left -= plain_message_tokens(known.text) if known else 0
    kept: list[HistoryItem] = []
    for n, item in reversed(spoken):
        left -= plain_message_tokens(item.content)
        if left < 0 or n < first:
            break
        kept.append(item)
    # Some providers refuse a conversation that the model began.
    while kept and kept[-1].role == "assistant":
        kept.pop()
    shown = kept[::-1]
    cut = [item for _, item in spoken[: len(spoken) - len(shown)]]
    together = [ModelRequest(parts=[UserPromptPart(content=prompt(one, files))]) for one in message.earlier]
    return Past([*_summary(known), *map(_as_message, shown), *together], known, cut, shown)


def overflow(past: Past, left_out: int) -> list[HistoryItem]:
    """What is to be summed up: all that found no room, and what was shown up to the half of it; none where all did.

    So there is room for a while, and what a provider caches of the conversation begins the same for as long.

    Args:
        left_out: messages of people that were left out of what was shown.
    """
    said = [*past.cut, *past.shown]
    asked = [n for n, item in enumerate(past.shown) if item.role == "user"]
    end = len(past.cut) + (asked[left_out] if left_out < len(asked) else len(past.shown))
    # A greeting of the agent's, which no conversation begins with here, is none.
    if not any(item.role == "user" for item in said[:end]):
        return []
    left = sum(plain_message_tokens(item.content) for item in said[end:])
    half = left / 2
    # It ends before a message that the journal has: by that one what was said later is told.
    while end < len(said) and (left > half or said[end].role != "user" or said[end].id is None):
        left -= plain_message_tokens(said[end].content)
        end += 1
    return said[:end]


def _summary(known: Remembered | None) -> list[ModelMessage]:
    return [ModelRequest(parts=[SummaryPart(content=f"{_SUMMARY}\n{known.text}")])] if known else []


def apart(messages: list[ModelMessage]) -> tuple[list[ModelMessage], list[ModelMessage]]:
    """The summary in front, where there is one, and all else; of messages that are :func:`one_by_one`."""
    ends = 1 if messages and any(isinstance(part, SummaryPart) for part in messages[0].parts) else 0
    return messages[:ends], messages[ends:]


def prompts(messages: Sequence[ModelMessage]) -> int:
    """How many messages of people are among some."""
    return sum(map(_is_prompt, messages))


def _is_said(item: HistoryItem) -> bool:
    return item.role in ("user", "assistant") and bool(item.content.strip()) and not _is_notice(item)


def _is(item: HistoryItem, message: Message) -> bool:
    return item.role == message.role and item.content == message.content


def _is_notice(item: HistoryItem) -> bool:
    """Whether it is an apology of ours: a platform's history, and journals of before, have it as text."""
    return item.role == "assistant" and item.content in NOTICES


def _as_message(item: HistoryItem) -> ModelMessage:
    if item.role == "user":
        return ModelRequest(parts=[UserPromptPart(content=by(item.content, item.name))])
    return ModelResponse(parts=[TextPart(content=whole_characters(item.content))])


def one_by_one(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Messages with those apart that were put into one because nobody answered in between: each can be left out."""
    found: list[ModelMessage] = []
    for message in messages:
        if isinstance(message, ModelRequest) and all(isinstance(part, UserPromptPart) for part in message.parts):
            *before, last = message.parts
            found += [ModelRequest(parts=[part]) for part in before]
            found.append(replace(message, parts=[last]) if before else message)
        else:
            found.append(message)
    return found


def asked_at(messages: Sequence[ModelMessage]) -> int:
    """Where the message to answer is: what follows is of this run."""
    # A tool's images come as a prompt too, later in the run.
    ours = (n for n, message in enumerate(messages) if message.run_id is not None and _is_prompt(message))
    prompts = [n for n, message in enumerate(messages) if _is_prompt(message)]
    return next(ours, prompts[-1] if prompts else 0)


def half(messages: Sequence[ModelMessage]) -> int:
    """How many messages to leave out so that about half of what came before the one to answer remains.

    What comes after that one stays: a tool's result belongs to its call. 0: there is nothing to leave out.
    """
    asked = asked_at(messages)
    begin = (asked + 1) // 2
    while begin < asked and not _is_prompt(messages[begin]):
        begin += 1
    return begin


def starts(messages: Sequence[ModelMessage]) -> list[int]:
    """Where the conversation may begin for the model: at each message of a person, the one to answer last."""
    asked = asked_at(messages)
    return [n for n in range(asked + 1) if n in (0, asked) or _is_prompt(messages[n])]


def _is_prompt(message: ModelMessage) -> bool:
    return isinstance(message, ModelRequest) and any(isinstance(part, UserPromptPart) for part in message.parts)
