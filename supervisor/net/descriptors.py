"""File descriptors: how many this process may have, what a fleet needs, and for how many agents they suffice."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: What the process has open for itself: event loop, registry, log, listening port; measured, and some more.
OWN: Final = 40
#: Requests to the platform's API under way at once, and their connections that are kept for the next.
REQUESTS: Final = 32
#: Whoever asks the admin port.
ADMIN: Final = 16
#: What handlers open: a part of the limit, at least so many.
HANDLERS_LEAST, HANDLERS_PART = 16, 32
#: Second sockets while tokens and sockets are renewed: a part of the limit, at least so many.
SECOND_LEAST, SECOND_PART = 8, 64
#: Stands for no limit: more than the system gives a process.
UNLIMITED: Final = 1 << 30
REMEDY: Final = "raise LimitNOFILE of the unit, ulimit -n, or the container's ulimit"
NONE_LEFT: Final = f"no file descriptor is left in this process: {REMEDY}"
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class Budget:
    """What so many descriptors are used for.

    Args:
        limit: how many the process may have.
    """

    limit: int

    @property
    def reserved(self) -> int:
        """Those that no agent's connection takes; where there are very few, half of them."""
        wanted = OWN + REQUESTS + ADMIN + max(HANDLERS_LEAST, self.limit // HANDLERS_PART)
        return min(wanted, self.limit // 2)

    @property
    def second(self) -> int:
        """How many agents may have a second connection at once."""
        return min(max(SECOND_LEAST, self.limit // SECOND_PART), max(1, self.limit // 16))

    @property
    def agents(self) -> int:
        """For how many agents they suffice."""
        return max(1, self.limit - self.reserved - self.second)


def needed(agents: int) -> int:
    """How many descriptors ``agents`` agents need, with all that is reserved beside them."""
    limit = agents + OWN + REQUESTS + ADMIN + HANDLERS_LEAST + SECOND_LEAST
    while (missing := agents - Budget(limit).agents) > 0:
        limit += missing
    return limit


def current() -> Budget:
    """What this process has now; somebody may have changed that (``prlimit``)."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Budget(UNLIMITED if soft == resource.RLIM_INFINITY else soft)


def raise_limit() -> Budget:
    """Raise the soft limit to the hard one, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name a hard limit that they do not keep to.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return current()


def of_process(pid: int) -> tuple[int, int] | None:
    """The soft and the hard limit of another process; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
        [line] = [line for line in lines if line.startswith("Max open files")]
        soft, hard = line.split()[3:5]
        return int(soft), int(hard)
    except (OSError, ValueError):
        return None


def is_exhaustion(error: BaseException | None) -> bool:
    """Whether an error says that there are no more descriptors."""
    return isinstance(error, OSError) and error.errno in _EXHAUSTED


def exhausted() -> bool:
    """Whether there are no more right now: what fails for the lack of them does not always say so, as a look-up."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return is_exhaustion(error)
    return False


class Spare:
    """Some descriptors that are kept free by being held: given back when there are no others, for health to answer."""

    def __init__(self, count: int = ADMIN // 2) -> None:
        self._count = count
        self._held: list[int] = []

    def look(self) -> bool:
        """Give them back where there are no others, take them again where there are enough; whether there were none."""
        if self._held:
            if none_left := exhausted():
                self.release()
            return none_left
        none_left = exhausted()
        opened: list[int] = []
        with contextlib.suppress(OSError):
            opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(2 * self._count))
        kept = self._count if len(opened) == 2 * self._count else 0
        self._held = opened[:kept]
        for one in opened[kept:]:
            os.close(one)
        return none_left or not kept

    def release(self) -> None:
        """Give them back."""
        while self._held:
            os.close(self._held.pop())
