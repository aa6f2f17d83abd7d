"""One agent's part in its conversations beside answering: joining, leaving, who is there, what was said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from supervisor.core.errors import ConnectionLostError, SendRefusedError, Verdict
from supervisor.core.records import JournaledMessage
from supervisor.handler import Attachment, HistoryItem, Remembered
from supervisor.messages.conversations import Conversations
from supervisor.messages.recall import Recall
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.platform.sends import refusal

Upload = Callable[[bytes, str, str], Awaitable[Attachment]]


class Participation:
    """What an agent does in its conversations, over the connection that there is.

    Args:
        ack_seconds: how long the platform's acknowledgements may take.
        upload: uploads a file of a name and a media type.
    """

    def __init__(
        self, scope: Scope, conversations: Conversations, recall: Recall, ack_seconds: float, upload: Upload
    ) -> None:
        self.conversations = conversations
        self._clock = scope.clock
        self._recall = recall
        self._ack_seconds = ack_seconds
        self.upload = upload
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection | None:
        """The connection that is in use; None while the agent is offline."""
        return self._connection

    def use(self, connection: Connection | None) -> None:
        """Use ``connection`` from now on; None: offline."""
        self._connection = connection

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event that nobody waits for; without a connection it is lost."""
        if self._connection is not None:
            self._connection.emit(event, payload)

    async def join(self, conversation_id: str) -> None:
        """Join a conversation and stay in it after a reconnect.

        Raises:
            ConnectionLostError: the agent is offline. Otherwise as :meth:`Connection.join`.
        """
        connection = self._online()
        if connection.at_agents_gateway:
            raise SendRefusedError(
                "this platform has no joins: it puts agents into conversations by itself", Verdict.REJECT
            )
        await connection.join(conversation_id, self._ack_seconds)
        connection.record_member(conversation_id, self._clock.monotonic())
        await self.conversations.joined(conversation_id)

    async def leave(self, conversation_id: str) -> None:
        """Leave a conversation; raises as :meth:`join` does."""
        await self._online().leave(conversation_id, self._ack_seconds)
        await self.conversations.left(conversation_id)

    async def online_users(self, conversation_id: str) -> list[str]:
        """The ids of the users who are in a conversation now; raises as :meth:`join` does."""
        return await self._online().online_users(conversation_id, self._ack_seconds)

    async def history(self, conversation_id: str, limit: int, up_to_id: int | None = None) -> list[HistoryItem]:
        """The last ``limit`` messages of a conversation, oldest first; see :meth:`Recall.last`.

        Raises:
            RegistryError: the journal cannot be read.
        """
        return await self._recall.last(conversation_id, limit, up_to_id)

    async def remembered(self, conversation_id: str) -> Remembered | None:
        """See :meth:`Recall.remembered`."""
        return await self._recall.remembered(conversation_id)

    async def remember(self, row: JournaledMessage, new: Remembered) -> bool:
        """See :meth:`Recall.remember`."""
        return await self._recall.remember(row, new)

    async def channel_send(self, payload: Mapping[str, Any]) -> None:
        """Write into a channel of a bridge (docs/protocol.md#8-third-generation, 8); success means published only.

        Raises:
            SendRefusedError: the platform will not have it.
            AckTimeoutError: no answer came; gateways that have no such event give none.
            ConnectionLostError: the agent is offline.
        """
        answer = await self._online().socket.call("channel:send", payload, self._ack_seconds)
        if not isinstance(answer, Mapping) or answer.get("success") is not True:
            error = answer.get("error") if isinstance(answer, Mapping) else None
            raise refusal(error if isinstance(error, str) else "no reason given")

    def _online(self) -> Connection:
        if self._connection is None:
            raise ConnectionLostError("the agent is not online")
        return self._connection
