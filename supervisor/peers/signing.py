"""Marks on what replicas and commands ask of a replica: who has the key asks, asks this one, and asks now. No I/O.

The key is derived from the admin token and the registry, and neither travels. A mark is an HMAC over all that a
question is, so that nobody can change it, send it to another replica or send it again. Times are those of the one that
is asked, on a clock that nobody sets: it tells them in its first answer, so clocks that are hours apart do not matter.

The table of replicas may name an address where a stranger listens: it was altered, or another machine has the address
by now. A stranger has no key, so it could only pass a question on to a true replica, and read the answer. Therefore a
mark is also over the address at which the one who asks believes the other to be. A replica reads questions by the
address that it told the table: one that came another way was not asked of it. That holds for the first question too,
so a stranger learns which incarnation is looked for and where, and nothing else. What is left is somebody at that very
address, on the way between the two: such a one sees what passes there, as with all that is sent without TLS. It can
neither ask anything itself nor change what is asked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import msgspec

#: How far from now, by the clock of the one that is asked, a question may say that it was made.
WINDOW_SECONDS: Final = 15.0
#: Questions of a window that are remembered; past that no further one is let in until some are old.
MOST_REMEMBERED: Final = 10_000
_LABEL: Final = b"aiwm-supervisor: questions between replicas, 1"
_HEADER: Final = re.compile(
    r"Replica ([0-9]{1,18}) ([0-9]{1,18}) ([0-9a-f]{32}) ([0-9a-f]{64}) ([0-9a-f]{64})", re.ASCII
)


class Key:
    """What the replicas of one registry share, and show nobody.

    Args:
        token: the admin token.
        registry_uuid: the registry's own; of another registry it is another key, whatever the token.
    """

    def __init__(self, token: str, registry_uuid: str) -> None:
        secret = hmac.new(_LABEL, token.encode(), hashlib.sha256).digest()
        self._key = hmac.new(secret, registry_uuid.encode(), hashlib.sha256).digest()

    def __repr__(self) -> str:
        """Nothing of it."""
        return "Key(…)"

    def mark(self, *said: str | int) -> str:
        """What proves that somebody with the key said this: 64 hex digits."""
        return hmac.new(self._key, msgspec.json.encode(said), hashlib.sha256).hexdigest()

    def proves(self, mark: str, *said: str | int) -> bool:
        """Whether a mark is that of what was said; takes as long whether or not it is."""
        return hmac.compare_digest(mark.encode(), self.mark(*said).encode())


def digest(body: bytes) -> str:
    """What stands for a body in a mark."""
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a replica, of another one or of a command.

    Args:
        target: the incarnation that is asked.
        address: where it is, as the table of replicas says; it does not travel, for who is asked knows it.
        milliseconds: when it was made, by the monotonic clock of the one that is asked.
        nonce: 32 hex digits that no other question has.
        path: what of the URL is asked for, its query with it.
        body_digest: stands for the body, so that a question is known before all of it has come.
    """

    target: int
    address: str
    milliseconds: int
    nonce: str
    method: str
    path: str
    body_digest: str

    @classmethod
    def new(cls, target: int, address: str, milliseconds: int, method: str, path: str, body: bytes = b"") -> Self:
        """A question that nobody has asked before."""
        return cls(target, address, milliseconds, secrets.token_hex(16), method, path, digest(body))

    def header(self, key: Key) -> str:
        """What the header ``Authorization`` says of it."""
        said = f"{self.target} {self.milliseconds} {self.nonce} {self.body_digest}"
        return f"Replica {said} {key.mark(*self._said())}"

    @classmethod
    def read(cls, header: str, method: str, path: str, key: Key, address: str) -> Self | None:
        """The question that a header signs; None where it signs something else, or nothing.

        Args:
            address: where the one who reads it is, as it told the table.
        """
        found = _HEADER.fullmatch(header)
        if found is None:
            return None
        target, milliseconds, nonce, body_digest, mark = found.groups()
        question = cls(int(target), address, int(milliseconds), nonce, method, path, body_digest)
        return question if key.proves(mark, *question._said()) else None

    def _said(self) -> tuple[str | int, ...]:
        made = (self.milliseconds, self.nonce)
        return ("question", self.target, self.address, *made, self.method, self.path, self.body_digest)


class Doorkeeper:
    """Lets a question in once: one that is for this incarnation, made lately, and never seen before.

    Args:
        me: this incarnation.
        monotonic: its clock, in seconds.
        address: where the table of replicas says that it is.
    """

    def __init__(
        self,
        me: int,
        monotonic: Callable[[], float],
        address: Callable[[], str],
        *,
        window_seconds: float = WINDOW_SECONDS,
        most: int = MOST_REMEMBERED,
    ) -> None:
        self.me = me
        self.address = address
        self._monotonic = monotonic
        self._window_seconds = window_seconds
        self._most = most
        # In the order in which they may be forgotten: by when each was let in.
        self._seen: OrderedDict[str, float] = OrderedDict()

    @property
    def milliseconds(self) -> int:
        """Now, as questions have to say it."""
        return int(self._monotonic() * 1000)

    def lets_in(self, question: Question) -> bool:
        """Whether a question whose mark is right may be answered; from now on it is not, another time."""
        now = self._monotonic()
        while self._seen and now - next(iter(self._seen.values())) > 2 * self._window_seconds:
            self._seen.popitem(last=False)
        late = abs(now - question.milliseconds / 1000) > self._window_seconds
        if question.target != self.me or late or question.nonce in self._seen or len(self._seen) >= self._most:
            return False
        self._seen[question.nonce] = now
        return True
