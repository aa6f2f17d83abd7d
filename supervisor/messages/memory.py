"""The fleet's one bound on the messages that are in memory, in bytes.

What does not fit stays in the journal, from where it is read when there is room again. Each agent may keep one message
whatever the bound, so that none stands still because of the others; otherwise the bound is strict.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.protocol import InboundMessage

DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024
#: What a message may take at most (``maxPayload``, docs/protocol.md#2-addresses). So much room is set aside for each
#: message that is to be read from the journal, since its size is not known before.
LARGEST_MESSAGE_BYTES = 1_000_000
#: The part of the whole that one agent may use: a slow one must not leave the others without.
SHARE = 1 / 4


def size_of(message: InboundMessage) -> int:
    """What a message takes in memory: the bytes of its content, of its attachments and of what it refers to."""
    content = message.content
    size = len(content) if content.isascii() else len(content.encode(errors="surrogatepass"))
    for attachment in message.attachments:
        size += len(attachment)
    for reference in message.references:
        size += len(reference.content or "")
    return size


class Memory:
    """Counts the bytes in use and offers room that becomes free to those who wait for it, in turn.

    Args:
        limit_bytes: what the messages of all agents together may take.
        largest_bytes: what is set aside for a message of unknown size.
    """

    def __init__(self, limit_bytes: int = DEFAULT_MEMORY_BYTES, *, largest_bytes: int = LARGEST_MESSAGE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        # A bound below the largest message would let nobody read anything.
        self._unit = min(largest_bytes, limit_bytes)
        self._reserved = 0  # messages that are being read
        self._waiting: dict[Callable[[], None], None] = {}  # in order of arrival

    @property
    def free_bytes(self) -> int:
        """What is neither used nor set aside; below zero where agents keep their one message in spite of the bound."""
        return self.limit_bytes - self.used_bytes - self._reserved * self._unit

    def fits(self, size: int, own_bytes: int = 0) -> bool:
        """Whether a message of ``size`` bytes fits now, and nobody waits who came first.

        Args:
            own_bytes: what the agent that asks uses already.
        """
        return not self._waiting and size <= min(self.free_bytes, SHARE * self.limit_bytes - own_bytes)

    def left_of_share(self, own_bytes: int) -> int:
        """How many messages of unknown size an agent's share has room for, others aside."""
        return max(0, int(max(SHARE * self.limit_bytes, self._unit) - own_bytes) // self._unit)

    def add(self, size: int) -> None:
        """A message is in memory."""
        self.used_bytes += size

    def remove(self, size: int) -> None:
        """A message is no longer in memory."""
        self.used_bytes -= size
        self._offer()

    def reserve(self, most: int, least: int, offer: Callable[[], None]) -> int:
        """Set room aside for messages that are to be read; :meth:`release` gives it back.

        Args:
            most, least: messages wanted, and granted whether or not there is room.
            offer: called, once, when there is room again, where there is none now.

        Returns:
            How many may be read.
        """
        # Half of the room at most, so that who comes meanwhile finds some too; rounded up, or the last stays free.
        granted = max(least, min(most, (self.free_bytes // self._unit + 1) // 2))
        if granted > 0:
            self._reserved += granted
            self.forget(offer)
        else:
            self._waiting.setdefault(offer)
        return granted

    def release(self, messages: int) -> None:
        """What was reserved has been read, and is counted by now."""
        self._reserved -= messages
        self._offer()

    def forget(self, offer: Callable[[], None]) -> None:
        """Whoever gave this ``offer`` waits no more."""
        self._waiting.pop(offer, None)

    def _offer(self) -> None:
        """Tell those who wait; whoever takes room, or waits again, does so within the call."""
        for _ in range(len(self._waiting)):
            if not self._waiting or self.free_bytes < self._unit:
                return
            offer = next(iter(self._waiting))
            del self._waiting[offer]
            offer()
