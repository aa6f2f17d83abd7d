"""What a handler gave, as messages for the platform. No I/O."""

from __future__ import annotations

import inspect
from typing import Any

from supervisor.core.errors import InvalidReplyError
from supervisor.handler import Reply, Thinking, ToolCall, ToolResult, Usage
from supervisor.protocol import OutboundMessage, fields


def to_outbound(
    part: object,
    *,
    conversation_id: str,
    agent_id: str,
    message_id: str | None = None,
    latency_ms: float | None = None,
    usage: Usage | None = None,
) -> OutboundMessage:
    """Turn one part into the message that carries it.

    Args:
        part: text, a Reply, or a Thinking, ToolCall or ToolResult on its own.
        message_id: the ``_id`` that it gets.
        latency_ms, usage: given to a Reply that has none of its own.

    Raises:
        InvalidReplyError: it is none of these, or its fields are of the wrong type; says which.
    """
    common: dict[str, Any] = {"conversation_id": conversation_id, "participant_id": agent_id, "id": message_id}
    try:
        match part:
            case str():
                # As a Reply of that text, which is what most answers are.
                return _message(common, content=part, usage=_usage(usage), latency=_rounded(latency_ms))
            case Reply():
                return _reply(part, common, latency_ms, usage)
            case Thinking():
                return _message(common, content=part.content, type="thinking", thinking=_thinking(part))
            case ToolCall():
                return _tool_call(part, common)
            case ToolResult():
                return _tool_result(part, common)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidReplyError(f"a {type(part).__name__} of the handler cannot be sent: {error}") from error
    raise InvalidReplyError(
        f"the handler gave a {_kind(part)}; it may give text, Reply, Thinking, ToolCall, ToolResult or None"
    )


def _kind(value: object) -> str:
    """What was given, and how that may have come."""
    return f"{type(value).__name__}{' (did you forget await?)' if inspect.isawaitable(value) else ''}"


def _message(common: dict[str, Any], *, role: str = "assistant", **given: Any) -> OutboundMessage:
    return OutboundMessage(role=role, **common, **given)


def _thinking(thinking: Thinking) -> fields.Thinking:
    return fields.Thinking(content=thinking.content, visible=thinking.visible, duration=round(thinking.duration_ms, 3))


def _reply(reply: Reply, common: dict[str, Any], latency_ms: float | None, usage: Usage | None) -> OutboundMessage:
    latency = reply.latency_ms if reply.latency_ms is not None else latency_ms
    if not isinstance(reply.content, str):
        raise TypeError(f"content is a {_kind(reply.content)}, not text")
    if isinstance(reply.attachments, str):
        raise TypeError("attachments is text, not a list of texts")
    return _message(
        common,
        content=reply.content,
        type=reply.type,
        thinking=_thinking(reply.thinking) if reply.thinking else None,
        # An Attachment is written as the text that it is.
        attachments=tuple(str(one) if isinstance(one, str) else one for one in reply.attachments),
        sources=tuple(reply.sources),
        usage=_usage(reply.usage or usage),
        latency=_rounded(latency),
        error=reply.error,
        metadata=dict(reply.metadata) if reply.metadata is not None else None,
    )


def _usage(spent: Usage | None) -> fields.Usage | None:
    return fields.Usage(spent.prompt_tokens, spent.completion_tokens, spent.total_tokens) if spent else None


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _tool_call(call: ToolCall, common: dict[str, Any]) -> OutboundMessage:
    function = fields.FunctionCall(call.name, call.arguments_json)
    return _message(
        common,
        content=call.content or f"Using {call.name} …",
        type="tool_call",
        tool_calls=(fields.ToolCall(call.id, call.type, function),),
    )


def _tool_result(result: ToolResult, common: dict[str, Any]) -> OutboundMessage:
    return _message(
        common,
        role="tool",
        content=result.content or (f"{result.call.name} answered" if result.success else f"{result.call.name} failed"),
        type="tool_result",
        tool_results=(
            fields.ToolResult(
                tool_call_id=result.call.id,
                tool_name=result.call.name,
                # The platform refuses a null result; a tool that answers nothing has still answered.
                result="" if result.result is None else result.result,
                success=result.success,
                error=result.error,
                execution_time=result.duration_ms,
            ),
        ),
    )
