"""What an answer is made of, as handlers give it. No I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from supervisor.core.usage import Usage
from supervisor.protocol.fields import Source


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning shown to the person, collapsed; ``duration_ms`` is how long it took."""

    content: str
    duration_ms: float = 0.0
    visible: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that is about to be used. ``arguments`` is what goes to it, as a mapping or as JSON text."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")
    type: str = "function"
    content: str = ""

    @property
    def arguments_json(self) -> str:
        """The arguments as the platform wants them: a JSON string."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the tool of ``call`` answered; ``result`` is anything that JSON can hold but null."""

    call: ToolCall
    result: Any
    success: bool = True
    error: str | None = None
    duration_ms: float | None = None
    content: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Args:
        content: the text; must not be blank.
        thinking: reasoning shown above it.
        attachments: http(s) URLs or ``document:<id>``; the platform refuses anything else.
        usage: tokens it cost; also counted in the metrics, in ``supervisor usage`` and against the budgets.
        latency_ms: how long it took to make; the supervisor fills it in when it is left out.
        type: ``text``, ``thinking``, ``tool_call``, ``tool_result``, ``error`` or ``system``. People's clients draw
            what has no type, so ``text`` and ``error`` go out without it; many hide ``system``.
        error: for ``type="error"``: what went wrong, in words that a person understands.
        metadata: anything JSON; v1 keeps it and echoes it.
        sources: what it rests on; the third generation keeps it with the answer.
    """

    content: str
    thinking: Thinking | None = None
    attachments: Sequence[str] = ()
    usage: Usage | None = None
    latency_ms: float | None = None
    type: str | None = None
    error: str | None = None
    metadata: Mapping[str, Any] | None = None
    sources: Sequence[Source] = ()
