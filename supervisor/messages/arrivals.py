"""Messages on their way from the socket into the journal, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from supervisor.core.flags import Flag
from supervisor.core.states import MessageState
from supervisor.messages.memory import Memory
from supervisor.protocol import InboundMessage

#: So many messages of an agent are on their way into the journal at once: more would not be quicker.
AT_ONCE: Final = 64


class Ending(NamedTuple):
    """Why a message is not worked on although it is journaled.

    Args:
        state: what it becomes.
        reason: for people.
        drop: the word under which it is counted.
    """

    state: MessageState
    reason: str
    drop: str


class Arrival(msgspec.Struct, eq=False, gc=False):
    """A message that is not journaled yet. Nothing refers to itself in it: a burst is not the garbage collector's.

    Attributes:
        key: names the message in the journal.
        received_at: seconds since the epoch.
        ending: why the message is settled as soon as it is journaled; None where it runs.
        command: the message is a command and goes into no lane.
        claimed: a place in its lane is reserved; written by whoever journals the message.
    """

    message: InboundMessage
    key: str
    received_at: float
    size_bytes: int
    ending: Ending | None = None
    command: bool = False
    claimed: bool = False

    @property
    def conversation_id(self) -> str:
        """Where it was said."""
        return self.message.conversation_id


class Arrivals:
    """Journals one agent's messages: one commit holds all that came during the last one.

    Args:
        memory: the fleet's bound on messages in memory.
        write: has a message journaled, and has :meth:`journaled` called once, at once or later. Must not raise.
        on_held: told the conversation of each message that is held back.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        write: Callable[[Arrival], None],
        on_held: Callable[[str], None] = lambda _conversation_id: None,
    ) -> None:
        self._memory = memory
        self._write = write
        self._on_held = on_held
        # A list, for it is short: an empty deque is 600 bytes of each agent.
        self._waiting: list[Arrival] = []
        # By conversation: messages that come after those that are being looked for in the platform's history.
        self._held_back: dict[str, list[Arrival]] = {}
        # Set when a conversation is held back no longer.
        self._resumed = Flag()
        self._journaling = 0
        self._beginning = False
        # While somebody waits for the end: done once nothing is on its way.
        self._ended: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """How many are not journaled yet, with those that are held back."""
        held_back = sum(map(len, self._held_back.values())) if self._held_back else 0
        return self._journaling + len(self._waiting) + held_back

    @property
    def journaling(self) -> bool:
        """Whether messages are on their way into the journal, which may have them or not."""
        return bool(self._waiting or self._journaling)

    def put(self, arrival: Arrival) -> None:
        """Take a message; returns at once."""
        self._memory.add(arrival.size_bytes)
        if self._held_back and (held_back := self._held_back.get(arrival.conversation_id)) is not None:
            held_back.append(arrival)
            self._on_held(arrival.conversation_id)
        else:
            self._waiting.append(arrival)
            self._begin()

    def hold(self, conversation_id: str) -> None:
        """Hold a conversation's new messages back from now on."""
        self._held_back.setdefault(conversation_id, [])

    def holds_back(self, conversation_id: str) -> bool:
        """Whether a message of a conversation is held back."""
        return bool(self._held_back.get(conversation_id))

    def take_held_back(self, conversation_id: str) -> list[Arrival]:
        """Hold a conversation back no longer; what was held back is to be given to :meth:`resume`."""
        self._resumed.set()
        return self._held_back.pop(conversation_id, [])

    def drop_held_back(self) -> list[Arrival]:
        """Forget what is held back, and hold nothing back any more; the messages."""
        dropped = [one for conversation_id in list(self._held_back) for one in self.take_held_back(conversation_id)]
        for arrival in dropped:
            self._memory.remove(arrival.size_bytes)
        return dropped

    async def until_none_is_held_back(self) -> None:
        """Return once no message is."""
        while any(self._held_back.values()):
            self._resumed.clear()
            await self._resumed.wait()

    def resume(self, arrivals: Iterable[Arrival]) -> None:
        """Let messages that were held back go on."""
        self._waiting.extend(arrivals)
        self._begin()

    def __iter__(self) -> Iterator[Arrival]:
        """Those that wait for their turn."""
        return iter(self._waiting)

    def _begin(self) -> None:
        """Have as many journaled as may be on their way at once."""
        if self._beginning:
            # Of one that was refused at once: whoever wrote it goes on.
            return
        self._beginning = True
        try:
            while self._waiting and self._journaling < AT_ONCE:
                self._journaling += 1
                self._write(self._waiting.pop(0))
        finally:
            self._beginning = False

    def journaled(self, arrival: Arrival) -> None:
        """The journal has a message, or has refused it."""
        self._journaling -= 1
        self._memory.remove(arrival.size_bytes)
        self._begin()
        if self._ended is not None and not self.journaling and not self._ended.done():
            self._ended.set_result(None)

    async def close(self, timeout: float) -> int:
        """Wait until all is journaled, for ``timeout`` seconds at most; how many were not then.

        The journal goes on trying with what it has been given while it is open.
        """
        for conversation_id in list(self._held_back):
            self.resume(self.take_held_back(conversation_id))
        if self.journaling:
            self._ended = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._ended], timeout=timeout)
            self._ended = None
        left = self._journaling + len(self._waiting)
        while self._waiting:
            self._memory.remove(self._waiting.pop(0).size_bytes)
        return left
