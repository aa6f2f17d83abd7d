"""What the model is told: the platform's instruction, what it should know besides, and the message to answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from supervisor.handler import Attachment, Context, Message, Reference

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
    """The message as the model is given it: with what came along, which it sees the names of."""
    parts = [message.content]
    if message.attachments:
        parts.append(f"[Attachments: {', '.join(map(_file, message.attachments))}]")
    parts += [f"[The person refers to {_reference(reference)}]" for reference in message.references]
    return "\n\n".join(parts)


def _file(attachment: Attachment) -> str:
    """A file by its URL; one whose bytes came along by its name, since they are no text."""
    known = [fact for fact in (attachment.name, attachment.media_type) if fact]
    if attachment.startswith("data:"):
        return f"{', '.join(known) or 'a file'} (its content cannot be read)"
    return f"{attachment} ({', '.join(known)})" if known else attachment


def _reference(reference: Reference) -> str:
    what = " ".join(one for one in (reference.resource_type, reference.resource_id) if one)
    named = " ".join(one for one in (reference.label, f"({what})" if what else "") if one) or "something"
    return f"{named}: {reference.content}" if reference.content else named
