"""What an agent does after a failure, and how long it waits first. Pure policy, no I/O."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from supervisor.core.backoff import Backoff
from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, Verdict
from supervisor.core.states import AgentState
from supervisor.net.trouble import LONGEST_RETRY_AFTER_SECONDS
from supervisor.settings import Settings

#: A faulted agent is looked at again this often: a missing file may be there by then.
FAULT_RECHECK_SECONDS = 30.0
#: How soon the platform is asked again for a suspended agent, drawn from between: it checks no secret for that.
SUSPENDED_SECONDS = (45.0, 60.0)
#: A kick leads to a new token at most this often, doubling while kicks go on: an ill platform kicks good tokens.
KICK_REFRESH_SECONDS = 10.0
KICK_REFRESH_CAP_SECONDS = 600.0
#: A token minted less than this long ago is no worse than a new one: its kick is the platform's trouble.
YOUNG_TOKEN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The waits of one deployment, in seconds."""

    backoff_initial: float
    backoff_cap: float
    reject_initial: float
    reject_cap: float
    stable: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that a deployment's settings ask for."""
        return cls(
            settings.backoff_initial_seconds,
            settings.backoff_cap_seconds,
            settings.reject_initial_seconds,
            settings.reject_cap_seconds,
            settings.stable_seconds,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What comes next: wait in ``state`` for ``seconds``, or, without a state, try at once with a new token."""

    state: AgentState | None
    seconds: float = 0.0


class Recovery:
    """Remembers one agent's failures and says what follows each.

    Args:
        uniform: draws between two bounds; tests give their own.
    """

    def __init__(
        self, bounds: Bounds, clock: Clock, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._uniform = uniform
        self._backoff = Backoff(bounds.backoff_initial, bounds.backoff_cap, uniform=uniform)
        self._rejected = 0
        self._online_since: float | None = None
        self._refresh_at = 0.0
        self._refresh_interval = KICK_REFRESH_SECONDS

    def online(self) -> None:
        """The agent is online."""
        self._online_since = self._clock.monotonic()
        self._rejected = 0
        self._refresh_interval = KICK_REFRESH_SECONDS
        # What a long illness put off does not hold after it: the next kick may well mean a revoked token.
        self._refresh_at = min(self._refresh_at, self._online_since + KICK_REFRESH_SECONDS)

    def offline(self) -> None:
        """It no longer is; the backoff starts over only after a time online that deserves the name."""
        if self._online_since is not None and self._clock.monotonic() - self._online_since >= self._bounds.stable:
            self._backoff.reset()
        self._online_since = None

    def reset(self) -> None:
        """Someone mended something: wait as after a first failure."""
        self._backoff.reset()
        self._rejected = 0

    def after(self, error: PlatformError, token_age_seconds: float | None = None) -> Step:
        """What follows a failure.

        Args:
            token_age_seconds: how long ago the token in use was minted; None where that is not known.
        """
        is_young = token_age_seconds is not None and token_age_seconds < YOUNG_TOKEN_SECONDS
        match error.verdict:
            case Verdict.REAUTHENTICATE if not is_young and self._may_refresh():
                return Step(None)
            case Verdict.REJECT if error.suspended:
                # No later than any other refusal, where somebody has set that to be soon.
                soon = min(self._uniform(*SUSPENDED_SECONDS), self._bounds.reject_initial)
                return Step(AgentState.REJECTED, soon)
            case Verdict.REJECT:
                return Step(AgentState.REJECTED, self._rejection_seconds())
            case Verdict.FAULT:
                return Step(AgentState.FAULTED, FAULT_RECHECK_SECONDS)
            case _:
                return Step(AgentState.BACKOFF, self.backoff_seconds(error))

    def backoff_seconds(self, error: PlatformError) -> float:
        """Count a failure; the seconds until the next attempt, no fewer than the platform asked for."""
        return max(self._backoff.next_delay(), error.retry_after_seconds or 0.0)

    def explain(self, error: PlatformError, seconds: float) -> str:
        """Why an agent waits for ``seconds``; until when, where the platform asked for more than we would wait."""
        asked = error.retry_after_seconds or 0.0
        if not self._bounds.backoff_cap < asked <= seconds:
            return error.reason
        longest = asked >= LONGEST_RETRY_AFTER_SECONDS
        how_long = "for an hour or longer, and is asked again after an hour" if longest else f"for {asked:.0f} s"
        until = datetime.fromtimestamp(self._clock.now() + seconds, UTC)
        return f"{error.reason}; the platform asked to wait {how_long}: next attempt at {until:%Y-%m-%d %H:%M:%S} UTC"

    def _rejection_seconds(self) -> float:
        bound = min(self._bounds.reject_initial * 2.0 ** min(self._rejected, 30), self._bounds.reject_cap)
        self._rejected += 1
        return self._uniform(0.8, 1.0) * bound

    def _may_refresh(self) -> bool:
        """Whether a kick is worth a new token: once, then ever more seldom while kicks go on."""
        now = self._clock.monotonic()
        if now < self._refresh_at:
            return False
        self._refresh_at = now + self._refresh_interval
        self._refresh_interval = min(self._refresh_interval * 2, KICK_REFRESH_CAP_SECONDS)
        return True
