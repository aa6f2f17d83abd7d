"""What the model is shown of the conversation: the newest messages that fit, whole, and always those to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from supervisor.handler import HistoryItem, Message

from .cleaning import whole_characters
from .prompt import NO_FILES, Files, by, prompt, words
from .tokens import plain_message_tokens
from .trouble import NOTICES


def earlier(
    items: Sequence[HistoryItem], message: Message, limit_tokens: int, files: Files = NO_FILES
) -> list[ModelMessage]:
    """The conversation before ``message``, as far as it fits into ``limit_tokens`` together with it.

    What is to be answered together with it stands at the end, whatever its size.

    Args:
        items: the journal's and the platform's history, oldest first; ``message`` is among them.
        files: what is shown of files; they leave the conversation its room.
    """
    end = len(items)
    for one in (message, *reversed(message.earlier)):
        end = next((n for n in range(end - 1, -1, -1) if _is(items[n], one)), end)
    left = limit_tokens - sum(map(plain_message_tokens, [*map(words, message.earlier), message.content]))
    kept: list[HistoryItem] = []
    for item in reversed(items[:end]):
        if item.role not in ("user", "assistant") or not item.content.strip() or _is_notice(item):
            continue
        left -= plain_message_tokens(item.content)
        if left < 0:
            break
        kept.append(item)
    # Some providers refuse a conversation that the model began.
    while kept and kept[-1].role == "assistant":
        kept.pop()
    said: list[ModelMessage] = [_as_message(item) for item in reversed(kept)]
    return [*said, *(ModelRequest(parts=[UserPromptPart(content=prompt(one, files))]) for one in message.earlier)]


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
