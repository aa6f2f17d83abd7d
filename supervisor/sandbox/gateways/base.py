"""What all gateways have in common: coming and going, events and their acks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.sandbox.gateways import shapes
from supervisor.sandbox.gateways.validation import RefusedError
from supervisor.sandbox.world.faults import PresenceElsewhere, RefuseSends
from supervisor.sandbox.world.ids import timestamp
from supervisor.sandbox.world.sessions import Session
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import StoredMessage
from supervisor.sandbox.world.tokens import Identity

Ack = dict[str, Any]

#: What a client sent when it sent nothing at all, as opposed to null.
MISSING = object()


class BrokenPayloadError(Exception):
    """The platform's handler throws on this payload: the client gets ``exception`` and no ack."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the sender of a ``message:send`` gets: an event (None for none), then the ack."""

    ack: Ack
    confirmation: tuple[str, dict[str, Any]] | None = None
    message: StoredMessage | None = None


class Gateway(ABC):
    """One namespace's behaviour."""

    #: Whether agents hear their own ``presence:update`` when they are registered.
    announces_agents = True

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._config = shared.config
        self._state = shared.state
        self._rooms = shared.rooms
        self._presence = shared.presence
        self._faults = shared.faults
        self._handlers: dict[str, Callable[[Session, Any], Ack]] = {"message:typing": self._typing}

    def admits(self, identity: Identity) -> bool:
        """Whether a good token is enough; nobody asks whether the agent is suspended or deleted."""
        del identity
        return True

    def register(self, session: Session) -> None:
        """Make an accepted session known, of which all hear."""
        self._enter(session)
        session.registered = True
        if session.agent_id is None or self.announces_agents:
            elsewhere = self._faults.strike(PresenceElsewhere, session.agent_id) is not None
            self._rooms.broadcast("presence:update", self._presence_of(session), but=session if elsewhere else None)
        self._state.log.add("online", session.agent_id, owner=session.identity.id, sid=session.sid)

    def depart(self, session: Session) -> None:
        """Take a session away; all hear ``offline``, also when its owner has another one."""
        if not self._rooms.remove(session) or not session.registered:
            return
        session.registered = False
        kind, owner_id = session.identity.kind, session.identity.id
        if session.agent_id is not None:
            owner_id = session.acting_agent or owner_id
            self._presence.remove(owner_id, session.sid)
        self._rooms.broadcast("presence:update", shapes.offline(kind, owner_id))
        self._state.log.add("offline", session.agent_id, owner=session.identity.id, sid=session.sid)

    @abstractmethod
    def _enter(self, session: Session) -> None:
        """Put a session where the platform puts it when it connects."""

    @abstractmethod
    def _presence_of(self, session: Session) -> dict[str, Any]:
        """Its ``presence:update`` when it comes online."""

    def handles(self, event: str) -> bool:
        """Whether the gateway knows the event; unknown ones are never acked."""
        return event == "message:send" or event in self._handlers

    def handle(self, session: Session, event: str, payload: Any) -> Ack:
        """Act on any event but ``message:send`` and return its ack.

        Raises:
            BrokenPayloadError: The platform throws where nothing catches it.
        """
        try:
            return self._handlers[event](session, payload)
        except RefusedError as refusal:
            return {"success": False, "error": str(refusal)}

    def send(self, session: Session, payload: Any) -> Receipt:
        """Act on a ``message:send``: check, store, deliver.

        Raises:
            RefusedError: The platform refuses it, in its own words. It may be stored all the same.
        """
        if isinstance(payload, Mapping):
            return self._accept(session, payload)
        if payload is None or payload is MISSING:
            nothing = "null" if payload is None else "undefined"
            raise RefusedError(f"Cannot read properties of {nothing} (reading 'conversationId')")
        return self._accept(session, {})

    @abstractmethod
    def _accept(self, session: Session, payload: Mapping[str, Any]) -> Receipt:
        """Check, store and deliver a message."""

    def refusal(self, error: str) -> Receipt:
        """What the sender of a refused ``message:send`` gets."""
        answer = {"success": False, "error": error}
        return Receipt(answer, ("message:error", {**answer, "timestamp": timestamp()}))

    def _refuse_by_switch(self, session: Session, *, stored: bool) -> None:
        """Refuse a send where the fault switch says so, before or after it was stored."""
        agent_id = session.agent_id
        fault = self._faults.get(RefuseSends, agent_id) if agent_id else None
        if fault is not None and fault.stored is stored:
            self._faults.strike(RefuseSends, agent_id)
            raise RefusedError(fault.error)

    def _typing(self, session: Session, payload: Any) -> Ack:
        """Pass it on; typing without a conversation goes nowhere, and is acked."""
        if payload is None or payload is MISSING:
            raise BrokenPayloadError
        conversation_id, is_typing = field_of(payload, "conversationId"), field_of(payload, "isTyping")
        event = "agent:typing" if session.agent_id is not None else "user:typing"
        if isinstance(conversation_id, str):
            update = shapes.activity(session, conversation_id, isTyping=is_typing)
            self._rooms.emit(conversation_id, event, update, but=session)
        self._log(session, "typing", conversation_id, is_typing=bool(is_typing))
        return {"success": True}

    def _log(self, session: Session, kind: str, conversation_id: Any, **fields: Any) -> None:
        self._state.log.add(kind, session.agent_id, conversation_id=conversation_id, **fields)


def field_of(payload: Any, name: str) -> Any:
    """A field as JavaScript reads it: of anything but an object it is not there."""
    return payload.get(name) if isinstance(payload, Mapping) else None


def conversation_of(payload: Any) -> Any:
    """``conversationId``, read where null and nothing make the platform's handler throw and answer with the error.

    Raises:
        RefusedError: There is no payload to read from.
    """
    if payload is None or payload is MISSING:
        nothing = "null" if payload is None else "undefined"
        raise RefusedError(f"Cannot destructure property 'conversationId' of 'data' as it is {nothing}.")
    return field_of(payload, "conversationId")
