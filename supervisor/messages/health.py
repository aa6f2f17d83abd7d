"""Whether an agent's handler can do its work: what it says of itself, and how the last message went."""

from __future__ import annotations

from typing import Any, Final

from supervisor.messages.secrecy import Secrecy

MAX_REASON_CHARS: Final = 200
#: Why no reply is taken, with the cure.
FORBIDDEN: Final = (
    "the platform does not let this agent write; give it the role organization.editor there, then reload it: "
    "supervisor agents reload"
)


class Health:
    """One handler's health.

    Args:
        log: the agent's logger.
    """

    def __init__(self, log: Any, secrecy: Secrecy) -> None:
        self._log = log
        self._secrecy = secrecy
        # Why the last message failed; the next one that succeeds ends it.
        self._failure: str | None = None
        # What the handler itself says is wrong; the handler has to take it back.
        self._reported: str | None = None
        # Whether the platform refuses what the agent says, whatever that is; the next reply that it takes ends it.
        self._forbidden = False

    def __str__(self) -> str:
        """``ok``, or ``failing`` with what most needs somebody: the platform's no, the handler's word, a message."""
        reason = (FORBIDDEN if self._forbidden else None) or self._reported or self._failure
        return f"failing: {reason}" if reason else "ok"

    @property
    def failing(self) -> bool:
        """Whether it is anything but ``ok``."""
        return bool(self._forbidden or self._reported or self._failure)

    def reset(self) -> None:
        """Another handler begins: of that nothing is known."""
        self._failure = self._reported = None

    def failed(self, reason: str) -> None:
        """A message failed."""
        self._failure = self._secrecy.shown(reason, MAX_REASON_CHARS)

    def succeeded(self) -> None:
        """A message was answered."""
        self._failure = None

    def permitted(self, allowed: bool) -> None:
        """Whether the platform lets the agent write, which its role there decides."""
        if allowed == self._forbidden:
            self._forbidden = not allowed
            if allowed:
                self._log.info("health_ok")
            else:
                self._log.warning("health_failing", reason=FORBIDDEN)

    def report(self, reason: str | None) -> None:
        """The handler says what is wrong with it, or, with None, that all is well."""
        before = self._reported
        self._reported = None if reason is None else self._secrecy.shown(reason, MAX_REASON_CHARS) or "no reason given"
        if self._reported is None:
            self._failure = None
        if self._reported != before:
            if self._reported is None:
                self._log.info("health_ok")
            else:
                self._log.warning("health_failing", reason=self._reported)
