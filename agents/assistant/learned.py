"""What an endpoint has taught us by its answers and refusals, so that the same trouble is paid for once.

It is of all agents that ask the endpoint, in memory only, and forgotten after a while: servers are mended and replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

TRUSTED_SECONDS: Final = 3600.0
#: What is asked of an endpoint that refused so much and gave no figure.
LESS_THAN_REFUSED: Final = 0.8
#: What is left for the answer where its length is not set: of the limit, and at most.
ANSWER_SHARE: Final = 1 / 8
ANSWER_TOKENS: Final = 1024
#: Bounds of how far the provider's count may be from our estimate.
_RATIOS: Final = (0.25, 8.0)

_V = TypeVar("_V")


class Learned:
    """The lessons of one endpoint.

    Args:
        trusted_seconds: how long a lesson holds.
        now: monotonic seconds.
    """

    def __init__(self, *, trusted_seconds: float = TRUSTED_SECONDS, now: Callable[[], float] = time.monotonic) -> None:
        self._trusted_seconds = trusted_seconds
        self._now = now
        self._lessons: dict[str, tuple[Any, float]] = {}

    def _get(self, name: str, otherwise: _V) -> _V:
        value, until = self._lessons.get(name, (otherwise, float("inf")))
        return cast("_V", value) if self._now() < until else otherwise

    def _set(self, name: str, value: Any) -> None:
        self._lessons[name] = (value, self._now() + self._trusted_seconds)

    @property
    def streams(self) -> bool:
        """Whether it answers a streamed request with a stream."""
        return self._get("streams", True)

    def does_not_stream(self) -> None:
        """It gave a whole body, or refused to stream."""
        self._set("streams", False)

    @property
    def gives_finish_reason(self) -> bool:
        """Whether its streams tell that they are complete; some servers' never do."""
        return self._get("says_why", True)

    def ended(self, *, reason_given: bool) -> None:
        """A stream of it that seems whole has ended."""
        if reason_given:
            self._lessons.pop("says_why", None)
        else:
            self._set("says_why", False)

    @property
    def _refused_settings(self) -> dict[tuple[str, str], str]:
        return self._get("settings", {})

    def refusal_of(self, name: str, value: object) -> str | None:
        """What it said when it did not take a model setting with this value; None: it may take it."""
        return self._refused_settings.get((name, repr(value)))

    def refuses_setting(self, name: str, value: object, said: str) -> None:
        """It does not take a setting with this value; another agent's may be one that it takes."""
        self._set("settings", {**self._refused_settings, (name, repr(value)): said})

    @property
    def refused_tools(self) -> dict[str, str]:
        """Marks of tools whose definition it does not take, and their names."""
        return self._get("tools", {})

    def refuses_tools(self, marks: dict[str, str]) -> None:
        """It does not take these."""
        self._set("tools", {**self.refused_tools, **marks})

    @property
    def most_tools(self) -> int | None:
        """How many tools it takes; None: nobody knows of a bound."""
        return self._get("most_tools", None)

    def takes_tools(self, most: int) -> None:
        """It takes so many tools."""
        self._set("most_tools", most)

    @property
    def blind_to(self) -> frozenset[str]:
        """The kinds of files that it does not take: ``image``, ``document``."""
        return self._get("blind_to", frozenset())

    def is_blind_to(self, kinds: frozenset[str]) -> None:
        """It does not take files of these kinds."""
        self._set("blind_to", self.blind_to | kinds)

    # Tokens: its own count where it told one, else by our estimate.

    def room(self, answer_tokens: int | None) -> float | None:
        """How many estimated tokens a request to it may have; None: nobody knows of a bound.

        Args:
            answer_tokens: how long the answer may become, where that is set.
        """
        limit: int | None = self._get("limit", None)
        refused: int | None = self._get("refused", None)
        bounds = []
        if limit is not None:
            left = answer_tokens if answer_tokens is not None else min(ANSWER_TOKENS, int(limit * ANSWER_SHARE))
            # Half at least: an answer as long as the whole window is a setting that cannot be meant.
            bounds.append(max(limit - left, limit / 2) / self._get("ratio", 1.0))
        if refused is not None:
            bounds.append(refused * LESS_THAN_REFUSED)
        return min(bounds, default=None)

    def refused_length(self, estimated: int, limit: int | None, asked: int | None) -> None:
        """It did not take a request of so many estimated tokens.

        Args:
            limit, asked: its limit and its own count of the request, where it told them.
        """
        if limit is not None:
            self._set("limit", limit)
        if limit is not None and asked is not None and estimated:
            least, most = _RATIOS
            self._set("ratio", min(most, max(least, asked / estimated)))
        elif limit is None or estimated <= (self.room(0) or 0):
            # By our estimate it would have fitted, or there is nothing else to go by.
            before: int | None = self._get("refused", None)
            self._set("refused", estimated if before is None else min(before, estimated))
