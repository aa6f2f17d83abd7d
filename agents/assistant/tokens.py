"""How many tokens a text is, about: no provider's own count is known before the request. Pure, no I/O.

Latin text is four characters a token; of other writing systems a character is about one. What is estimated to fit and
does not is shortened (see `fitting`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters

LATIN_CHARS_PER_TOKEN: Final = 4
#: What a message costs besides its text.
MESSAGE_TOKENS: Final = 4
#: What an image or a page or two of a document is counted as.
FILE_TOKENS: Final = 1500


def text_tokens(text: str) -> int:
    """About how many tokens a text is."""
    latin = len(text.encode("latin-1", "ignore"))
    return latin // LATIN_CHARS_PER_TOKEN + len(text) - latin


def beginning(text: str, most_tokens: int) -> str:
    """As much of a text as so many tokens are, about."""
    tokens = text_tokens(text)
    if tokens <= most_tokens:
        return text
    return f"{text[: len(text) * most_tokens // tokens]}…"


def plain_message_tokens(text: str) -> int:
    """About how many tokens a message of this text is."""
    return text_tokens(text) + MESSAGE_TOKENS


def request_tokens(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> int:
    """About how many tokens a whole request is: what was said, the instruction, and the tools."""
    instructions = next((m.instructions for m in reversed(messages) if isinstance(m, ModelRequest)), None)
    tools = sum(_tool_tokens(tool) for tool in parameters.function_tools)
    return text_tokens(instructions or "") + tools + sum(map(message_tokens, messages))


def _tool_tokens(tool: Any) -> int:
    schema = json.dumps(tool.parameters_json_schema, ensure_ascii=False, default=str)
    return plain_message_tokens(f"{tool.name} {tool.description or ''} {schema}")


def message_tokens(message: ModelMessage) -> int:
    """About how many tokens one message is."""
    return MESSAGE_TOKENS + sum(_part_tokens(part) for part in message.parts)


def _part_tokens(part: Any) -> int:
    match part:
        case TextPart() | ThinkingPart():
            return text_tokens(part.content)
        case ToolCallPart():
            return text_tokens(part.tool_name) + text_tokens(part.args_as_json_str())
        case ToolReturnPart():
            return text_tokens(part.model_response_str())
        case UserPromptPart():
            content = part.content
            return text_tokens(content) if isinstance(content, str) else sum(map(_content_tokens, content))
    return 0


def _content_tokens(content: Any) -> int:
    if isinstance(content, str):
        return text_tokens(content)
    return FILE_TOKENS if isinstance(content, BinaryContent) or hasattr(content, "url") else 0


def answer_tokens(parts: Iterable[Any]) -> int:
    """About how many tokens the parts of an answer are."""
    return sum(_part_tokens(part) for part in parts)
