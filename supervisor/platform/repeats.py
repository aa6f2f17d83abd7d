"""When equal messages were sent: the later platform drops one that repeats another within 5 s and acks it all the same.

Its key is set before it stores, so a send that failed is swallowed too when it is repeated too soon
(docs/protocol.md#86-sends). No I/O.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

#: After so long an equal message is taken as a new one.
EQUAL_SECONDS: Final = 6.0
#: The id that ``message:sent`` names for a message that was dropped as a repetition.
DROPPED: Final = "dedup"


class _Compared(msgspec.Struct):
    conversationId: str = ""  # noqa: N815  as on the wire
    role: str = ""
    type: str = ""
    content: str = ""


class Repeats:
    """One agent's sends of the last seconds, over all of its connections."""

    def __init__(self) -> None:
        self._sent: dict[bytes, float] = {}

    def wait_seconds(self, body: bytes, now: float) -> float:
        """How long a message has to wait so that it repeats none.

        Args:
            body: the message as JSON.
            now: monotonic seconds.
        """
        at = self._sent.get(_key(body))
        return 0.0 if at is None else max(0.0, at + EQUAL_SECONDS - now)

    def sent(self, body: bytes, now: float) -> None:
        """A message goes out now; arguments as for :meth:`wait_seconds`."""
        key = _key(body)
        self._sent.pop(key, None)
        self._sent[key] = now
        # They stand in the order of their times: each is looked at once more, and not all with each message.
        while self._sent[oldest := next(iter(self._sent))] + EQUAL_SECONDS <= now:
            del self._sent[oldest]


def _key(body: bytes) -> bytes:
    compared = msgspec.json.decode(body, type=_Compared)
    return hashlib.blake2b(msgspec.json.encode(compared), digest_size=16).digest()
