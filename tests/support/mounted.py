"""What tests of handlers share: a message for them, and what they answer to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from supervisor.handler import Context, Message, Part
from supervisor.handlers import MountedHandler

MESSAGE = Message(conversation_id="c" * 24, role="user", content="hi")
NO_CONTEXT = cast("Context", None)
Write = Callable[[str, str], None]


async def answers(handler: MountedHandler) -> list[Part]:
    return [part async for part in handler.parts(MESSAGE, NO_CONTEXT)]
