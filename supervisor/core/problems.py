"""Gathers what is wrong in several places, so that all of it is told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from supervisor.core.errors import ConfigurationError, SeveralProblemsError, SupervisorError


def error_of(problems: Sequence[str]) -> ConfigurationError:
    """What tells of these, at least one, each in a line."""
    return SeveralProblemsError(problems) if len(problems) > 1 else ConfigurationError(problems[0])


class Problems:
    """What was found to be wrong so far, each thing once.

    Args:
        where: what to put before each, such as the file and the entry.
    """

    def __init__(self, where: str = "") -> None:
        self._prefix = f"{where}: " if where else ""
        self._found: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def add(self, problem: str) -> None:
        """Note one, in a line."""
        self._found[f"{self._prefix}{problem}"] = None

    def take(self, error: SupervisorError) -> None:
        """Note what an error tells."""
        for problem in error.problems if isinstance(error, SeveralProblemsError) else (str(error),):
            self.add(problem)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Note what is refused within, and go on behind it."""
        try:
            yield
        except SupervisorError as error:
            self.take(error)

    def raise_found(self) -> None:
        """Go on where nothing is wrong.

        Raises:
            ConfigurationError: something is; of several things each is told.
        """
        if self._found:
            raise error_of(list(self._found))
