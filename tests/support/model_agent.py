"""What a replica of the model knows of an agent, and of what it has sent to be committed."""

from __future__ import annotations

import enum
from collections import defaultdict, deque
from dataclasses import dataclass, field

from tests.support.model_database import Message, Operation, Reply, Statement


class Life(enum.Enum):
    RUNS = "runs"
    FENCED = "fenced"
    ENDED = "ended"


@dataclass(eq=False)
class Entry:
    """A message in its lane."""

    message: Message
    key: str
    row: int = 0
    attempts: int = 0
    running: bool = False
    asked: bool = False  # its next operation waits in the queue


@dataclass
class Agent:
    """An agent as this replica runs it, or is to run it.

    Attributes:
        buffer: heard while another one owns it.
        leaving: who is to have it, once that one listens.
        move: by which that one listens; None: it does not, so that something may be said that nobody hears.
        drained: all that its socket held since then is read.
        heard_all: there was a socket to be read.
        released: the end of what is written for it is in the queue.
        announced: its owner was told that it listens here.
        missed: its socket is younger than that: its owner may have let go of it in between.
        known: what has no name and was written down by whoever had it before, while the socket holds frames of then.
        lost_epoch: of the lease that was given away last: who looks at that one, or an older one, looks at the past.
    """

    name: str
    owned: bool = False
    epoch: int = 0
    lost_epoch: int = 0
    leaving: int | None = None
    move: int | None = None
    drained: bool = False
    heard_all: bool = False
    released: bool = False
    announced: bool = False
    missed: bool = False
    known: set[Message] = field(default_factory=set)
    buffer: list[Message] = field(default_factory=list)
    lanes: defaultdict[str, deque[Entry]] = field(default_factory=lambda: defaultdict(deque))
    unsent: list[Reply] = field(default_factory=list)


@dataclass(eq=False)
class Batch:
    """What was sent last to be committed; ``statement`` is None where nobody knows what became of it."""

    number: int
    operations: list[Operation]
    statement: Statement | None = None
