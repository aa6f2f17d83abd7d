"""The platform as several replicas meet it: any number of sockets of an agent, each message to all of them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from tests.support.model_database import Message
from tests.support.model_flaws import BrokenPromiseError


@dataclass
class Platform:
    """Who listens, what was said, and what was answered.

    Attributes:
        history: whether it can be asked for what was said while nobody listened.
        one_socket: whether it refuses a second socket of an agent.
        came: how much had been said when a replica opened the first socket of an agent since it closed one itself.
        holders: of each message the replicas that have it, read or not.
        answers: how often each reply came, by its name; a second one of the name is refused.
    """

    history: bool
    one_socket: bool = False
    said: list[Message] = field(default_factory=list)
    sockets: dict[tuple[str, int], deque[Message]] = field(default_factory=dict)
    came: dict[tuple[str, int], int] = field(default_factory=dict)
    holders: list[set[int]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    def say(self, agent: str, conversation: str, *, named: bool) -> None:
        number = len(self.said)
        message = Message(number, agent, conversation, f"m{number}" if named else "")
        self.said.append(message)
        for (listening, _), frames in self.sockets.items():
            if listening == agent:
                frames.append(message)
        self.holders.append({replica for listening, replica in self.sockets if listening == agent})

    def open(self, agent: str, replica: int) -> bool:
        """A socket; whether there is one."""
        if (agent, replica) in self.sockets:
            raise BrokenPromiseError(f"replica {replica} opened a second socket of {agent}")
        if self.one_socket and any(listening == agent for listening, _ in self.sockets):
            return False
        self.sockets[agent, replica] = deque()
        self.came.setdefault((agent, replica), len(self.said))
        return True

    def tell(self, agent: str, replica: int) -> list[Message]:
        """What the history has, by its names."""
        told = [one for one in self.said if one.agent == agent and one.key] if self.history else []
        for message in told:
            self.holders[message.number].add(replica)
        return told

    def listens(self, agent: str, replica: int) -> bool:
        return (agent, replica) in self.sockets

    def read(self, agent: str, replica: int) -> Message | None:
        """The next frame of a socket, if there is one."""
        frames = self.sockets.get((agent, replica))
        return frames.popleft() if frames else None

    def entrust(self, message: Message, replica: int, *, relied_on: bool = True) -> None:
        """Whoever has a message leaves it to the others that came before it was said, whatever became of them since.

        Args:
            relied_on: one of them is known to have come; else what nobody heard is lost, unless the history has it.
        """
        others = [since for (agent, other), since in self.came.items() if agent == message.agent and other != replica]
        if self.one_socket or not relied_on or any(since <= message.number for since in others):
            self.holders[message.number].discard(replica)

    def close(self, agent: str, replica: int) -> list[Message]:
        """End a socket; what was in it is read first."""
        self.came.pop((agent, replica), None)
        return list(self.sockets.pop((agent, replica), ()))

    def cut(self, replica: int) -> None:
        """All sockets of a replica break; what it has not read is gone."""
        for key in [key for key in self.sockets if key[1] == replica]:
            for message in self.sockets.pop(key):
                self.holders[message.number].discard(replica)

    def forget(self, replica: int) -> None:
        """The process is gone, with all that it had in memory."""
        self.cut(replica)
        for holders in self.holders:
            holders.discard(replica)
