"""A handler that does to each message what its test has planned."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from supervisor.handler import Context, Message, Permanent

#: What a handler may do with an attempt. After the last one that is planned it answers.
ACTS = (
    *("answer", "silence", "slow", "fail", "permanent", "parts", "part_then_fail", "hang", "swallow", "cancelled"),
    *("blank", "late_part"),
)
#: Ends after which a message is not tried again: a dead letter.
FINAL_FAILURES = frozenset({"permanent", "part_then_fail", "hang", "swallow", "blank", "late_part"})
FAILURES = FINAL_FAILURES | {"fail", "cancelled"}
SLOW_SECONDS = 4.0

#: The modules of an agents folder that play on the stage, by the form of their handler.
SINGLE = (
    "from tests.support.stage import current\n\n\nasync def on_message(message, ctx):\n"
    "    return await current().answer(message, ctx)\n"
)
STREAMING = (
    "from tests.support.stage import current\n\n\nasync def on_message(message, ctx):\n"
    "    async for part in current().parts(message, ctx):\n        yield part\n"
)


@dataclass
class Stage:
    """What was planned and what was played.

    Attributes:
        plans: the acts of each message's attempts, by its content.
        played: the acts that were begun, by content, with the number of the replay.
        ended: the acts that came to their end.
        clashes: messages that ran while another one of their conversation did.
    """

    plans: dict[str, Sequence[str]] = field(default_factory=dict)
    played: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    clashes: list[tuple[str, str]] = field(default_factory=list)
    _on: dict[str, str] = field(default_factory=dict)

    def fall(self) -> None:
        """The process died, and with it whoever was on the stage."""
        self._on.clear()

    async def answer(self, message: Message, ctx: Context) -> str | None:
        """The handler that answers once."""
        said = None
        async for part in self.parts(message, ctx):
            if said is not None:
                await ctx.send(said)
            said = part
        return said

    async def parts(self, message: Message, ctx: Context) -> Any:
        """The handler that answers in parts."""
        text, conversation = message.content, message.conversation_id
        plan = self.plans.get(text, ())
        act = plan[len(self.played[text])] if len(self.played[text]) < len(plan) else "answer"
        self.played[text].append(act)
        if conversation in self._on:
            self.clashes.append((self._on[conversation], text))
        self._on[conversation] = text
        try:
            async for part in self._act(act, text, ctx):
                yield part
            self.ended[text, act] += 1
        finally:
            if self._on.get(conversation) == text:
                del self._on[conversation]

    async def _act(self, act: str, text: str, ctx: Context) -> Any:
        match act:
            case "silence":
                return
            case "fail":
                raise RuntimeError("planned")
            case "permanent":
                raise Permanent("planned")
            case "cancelled":
                raise asyncio.CancelledError
            case "blank":
                yield " "
                return
            case "parts":
                yield f"{text} 0"
                await asyncio.sleep(0.5)
                yield f"{text} 1"
            case "part_then_fail":
                await ctx.send(f"{text} 0")
                raise RuntimeError("planned")
            case "slow":
                await asyncio.sleep(SLOW_SECONDS)
            case "hang":
                await asyncio.sleep(1e9)
            case "swallow" | "late_part":
                await self._swallow(text)
                if act == "late_part":
                    await ctx.send(f"{text} late")
        yield f"{text} end"

    async def _swallow(self, text: str) -> None:
        """Go on after having been cancelled, longer than anybody waits for it."""
        try:
            await asyncio.sleep(1e9)
        except asyncio.CancelledError:
            conversation = next((c for c, on in self._on.items() if on == text), None)
            if conversation is not None:
                # From now on it is as good as gone.
                del self._on[conversation]
            await asyncio.sleep(20)


_stages: list[Stage] = []


def current() -> Stage:
    """The stage of the script that is played; handlers are imported and know nothing of it."""
    return _stages[-1]


def open_stage() -> Stage:
    """A new stage for a script."""
    _stages[:] = [Stage()]
    return _stages[-1]
