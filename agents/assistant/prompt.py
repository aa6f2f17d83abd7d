"""What the model is told: the platform's instruction, what it should know besides, and the message to answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from supervisor.handler import Context, Message

from .settings import AssistantSettings


def instructions(ctx: Context, settings: AssistantSettings, missing: Sequence[str]) -> str:
    """The platform's instruction as the model gets it, and what it should know of its tools.

    Args:
        missing: servers whose tools cannot be used now.
    """
    parts = [ctx.instruction.system_prompt.strip()]
    if rules := [text for rule in ctx.instruction.guidelines if (text := _rule(rule))]:
        parts.append("\n".join(["Guidelines:", *(f"- {text}" for text in rules)]))
    if missing:
        parts.append(
            f"The tools of these servers cannot be used at the moment: {', '.join(missing)}. "
            "If an answer needs them, say that they are not available now."
        )
    return "\n\n".join(parts)


def _rule(rule: Any) -> str:
    """One guideline; the platform promises no shape."""
    if isinstance(rule, dict):
        named = (rule.get(name) for name in ("content", "text", "description", "guideline", "rule"))
        rule = next((text for text in named if isinstance(text, str)), rule)
    return rule.strip() if isinstance(rule, str) else json.dumps(rule, ensure_ascii=False)


def prompt(message: Message) -> str:
    """The message as the model is given it."""
    if not message.attachments:
        return message.content
    return f"{message.content}\n\n[Attachments: {', '.join(message.attachments)}]"
