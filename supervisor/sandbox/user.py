"""A person within this process: talks to agents through the same code as a person at a socket."""

import secrets
from typing import Any

from supervisor.sandbox.gateways.base import Gateway
from supervisor.sandbox.world.sessions import Session
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import StoredMessage
from supervisor.sandbox.world.tokens import Identity

#: Types of messages that are whole answers, and no parts of one.
_ANSWER_TYPES = (None, "text", "message", "error")


class LocalSession(Session):
    """A session whose events are kept in a list."""

    def __init__(self, gateway: Gateway, *, namespace: str, identity: Identity) -> None:
        super().__init__(gateway, sid=secrets.token_urlsafe(15), namespace=namespace, identity=identity)
        self.received: list[tuple[str, Any]] = []

    def emit(self, event: str, payload: Any) -> None:
        """Keep one event; presence of others is left out, there may be a million of them."""
        if event != "presence:update":
            self.received.append((event, payload))


class SandboxUser:
    """A person who is online on the sandbox.

    Made by :meth:`supervisor.sandbox.Sandbox.user`.
    """

    def __init__(self, session: LocalSession, shared: Shared) -> None:
        self._session = session
        self._gateway = session.gateway
        self._profile = shared.config.profile
        self._state = shared.state

    @property
    def id(self) -> str:
        """The user's id."""
        return self._session.identity.id

    @property
    def received(self) -> list[tuple[str, Any]]:
        """The events this user got, in order, as (name, payload)."""
        return self._session.received

    async def open(self, agent_id: str, *, another: bool = False) -> str:
        """Enter the conversation with an agent and return its id.

        v1 has one conversation an agent, later ones have one for each pair; ``another`` makes one more. An anonymous
        person is in its one conversation already.

        Raises:
            LookupError: There is no such agent.
        """
        if agent_id not in self._state.agents:
            raise LookupError(f"no agent {agent_id} on the sandbox; add_agent() first")
        if self._profile == "v1":
            made = (
                self._state.begin_conversation(agent_id, self.id) if another else self._state.conversation_of(agent_id)
            )
            conversation_id = made.id
            self._gateway.handle(self._session, "conversation:join", {"conversationId": conversation_id})
            return conversation_id
        if self._session.identity.kind == "anonymous":
            return str(self._session.default_conversation)
        if another:
            self._state.begin_conversation(agent_id, self.id)
        answer = self._gateway.handle(self._session, "agent:connect", {"agentId": agent_id})
        return str(answer["conversationId"])

    async def say(self, conversation_id: str, content: str, **fields: Any) -> str:
        """Send a message and return its id; ``fields`` are further fields of ``message:send``.

        Raises:
            RefusedError: The platform refused it.
        """
        payload = {"conversationId": conversation_id, "role": "user", "content": content, **fields}
        message = self._gateway.send(self._session, payload).message
        return message.id if message is not None else ""

    async def typing(self, conversation_id: str, *, is_typing: bool = True) -> None:
        """Start or stop typing."""
        self._gateway.handle(
            self._session, "message:typing", {"conversationId": conversation_id, "isTyping": is_typing}
        )

    async def leave(self) -> None:
        """Go offline; all hear of it."""
        self._gateway.depart(self._session)

    async def wait_for_reply(
        self, conversation_id: str, *, after: str, timeout: float = 10.0, count: int = 1
    ) -> list[StoredMessage]:
        """What the agent said after the message ``after``, once ``count`` answers are there.

        Thinking, tool calls and tool results come in the list but are not counted as answers.

        Raises:
            TimeoutError: There were fewer than ``count`` answers after ``timeout`` seconds.
        """

        def said() -> list[StoredMessage] | None:
            replies = self._after(conversation_id, after)
            answers = [reply for reply in replies if reply.role != "tool" and reply.type in _ANSWER_TYPES]
            return replies if len(answers) >= count else None

        try:
            replies = await self._state.log.wait_until(said, timeout)
        except TimeoutError:
            got = [(reply.type, reply.content) for reply in self._after(conversation_id, after)]
            raise TimeoutError(f"{count} answers wanted within {timeout} s of message {after}, got {got}") from None
        return replies or []

    def _after(self, conversation_id: str, message_id: str) -> list[StoredMessage]:
        messages = self._state.messages(conversation_id)
        ids = [message.id for message in messages]
        later = messages[ids.index(message_id) + 1 :] if message_id in ids else messages
        return [message for message in later if message.sender_kind == "agent" and message.shown]
