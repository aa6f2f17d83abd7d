"""How well one agent answers, over its messages: what its health says, and from when on apologies are no accident."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.handler import AgentContext, Context

from .trouble import HARMLESS, Kind, TroubleError, health


class Health:
    """Notes the health of one agent; what is wrong though it answers is said as well."""

    def __init__(self) -> None:
        self._apologies = 0
        self._misconfigured = False

    def set_up(self, ctx: AgentContext, wrong: str | None, remarks: Sequence[str] = ()) -> None:
        """Whether it can answer as it is set up, before anybody asks.

        Args:
            remarks: what is wrong though it can.
        """
        if wrong is not None:
            ctx.note_health(health(TroubleError(Kind.SETUP, wrong)))
        elif remarks or self._misconfigured:
            ctx.note_health("; ".join(remarks) or None)
        self._misconfigured = wrong is not None or bool(remarks)

    def answered(self, ctx: Context, remarks: Sequence[str]) -> None:
        """A person got an answer.

        Args:
            remarks: what is wrong all the same, the worst first.
        """
        self._apologies = 0
        self._misconfigured = False
        ctx.note_health("; ".join(dict.fromkeys(remarks)) or None)

    def apologised(self, ctx: Context, reason: str, *, most: int) -> None:
        """A person got an apology for what says nothing of the agent by itself; so many in a row do.

        Args:
            most: how many may come in a row.
        """
        self._apologies += 1
        if self._apologies >= most:
            ctx.note_health(f"{self._apologies} messages in a row got no answer, the last one: {reason}")

    def failed(self, ctx: Context, trouble: TroubleError, *, most: int) -> None:
        """A model gave no answer."""
        if trouble.kind in HARMLESS:
            self.apologised(ctx, f"{trouble.kind}: {trouble.reason}", most=most)
        else:
            self._apologies += 1
            ctx.note_health(health(trouble))
