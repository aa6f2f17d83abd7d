"""The fleet's one bound on the messages that its lanes hold in memory, in bytes (DESIGN §4).

What does not fit stays in the journal, from where the lanes read it when there is room again. The bound is strict but
for one message an agent, which each may always hold, so that none stands still because of the others.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.protocol import InboundMessage

DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024
#: What a message may take at most (``maxPayload``, PROTOCOL §2): room for so much is set aside for each that is to be
#: read from the journal, since nobody knows its size before.
LARGEST_MESSAGE_BYTES = 1_000_000
#: One agent may hold this part of the whole at most: a slow one must not leave the others without.
SHARE = 1 / 4


def size_of(message: InboundMessage) -> int:
    """What a message takes in memory: the bytes of its content and attachments."""
    return len(message.content.encode(errors="surrogatepass")) + sum(map(len, message.attachments))


class Memory:
    """Counts what is held and offers room that becomes free to those who wait for it, in turn.

    Args:
        limit_bytes: what all lanes together may hold.
        largest_bytes: what is set aside for a message of unknown size.
    """

    def __init__(self, limit_bytes: int = DEFAULT_MEMORY_BYTES, *, largest_bytes: int = LARGEST_MESSAGE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        # A bound below the largest message would let nobody read anything.
        self._unit = min(largest_bytes, limit_bytes)
        self._reserved = 0  # messages that are being read
        self._waiting: dict[Callable[[], None], None] = {}  # in order of arrival

    @property
    def free_bytes(self) -> int:
        """What is neither held nor set aside; below zero where agents hold their one message in spite of the bound."""
        return self.limit_bytes - self.held_bytes - self._reserved * self._unit

    def fits(self, size: int, own_bytes: int = 0) -> bool:
        """Whether a message of ``size`` bytes may be held now, with nobody waiting who came first.

        Args:
            own_bytes: what the agent that asks holds already.
        """
        return not self._waiting and size <= min(self.free_bytes, SHARE * self.limit_bytes - own_bytes)

    def left_of_share(self, own_bytes: int) -> int:
        """How many messages of unknown size an agent's share has room for, others aside."""
        return max(0, int(max(SHARE * self.limit_bytes, self._unit) - own_bytes) // self._unit)

    def hold(self, size: int) -> None:
        """A message is in memory."""
        self.held_bytes += size

    def let_go(self, size: int) -> None:
        """A message no longer is."""
        self.held_bytes -= size
        self._offer()

    def reserve(self, most: int, least: int, offer: Callable[[], None]) -> int:
        """Set room aside for messages that are to be read; give it back with :meth:`give_back`.

        Args:
            most, least: messages wanted, and granted whether or not there is room.
            offer: called, once, when there is room again, where there is none now.

        Returns:
            How many may be read.
        """
        # Half of the room at most: who comes meanwhile finds some too. Rounded up, or the last would stay free.
        granted = max(least, min(most, (self.free_bytes // self._unit + 1) // 2))
        if granted > 0:
            self._reserved += granted
            self.forget(offer)
        else:
            self._waiting.setdefault(offer)
        return granted

    def give_back(self, messages: int) -> None:
        """What was reserved has been read, and is held by now."""
        self._reserved -= messages
        self._offer()

    def forget(self, offer: Callable[[], None]) -> None:
        """Nobody waits there any more."""
        self._waiting.pop(offer, None)

    def _offer(self) -> None:
        """Tell those who wait; whoever takes room, or waits again, does so within the call."""
        for _ in range(len(self._waiting)):
            if not self._waiting or self.free_bytes < self._unit:
                return
            offer = next(iter(self._waiting))
            del self._waiting[offer]
            offer()
