"""Who is connected, and who is in which conversation."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode

from supervisor.sandbox.world.tokens import Identity

if TYPE_CHECKING:
    from supervisor.sandbox.gateways.base import Gateway

#: From so many sockets on a broadcast is written together with the next ones instead of at once.
_LAZY_FROM = 64

_SURROGATE = re.compile("[\ud800-\udfff]")


def encode_json(value: Any) -> str:
    """``value`` as Node writes it: as text, but lone surrogates, which UTF-8 cannot carry, as escapes."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def encode_packet(kind: str, namespace: str, body: str = "") -> str:
    """A Socket.IO packet as Engine.IO text: ``42/ws,["message:new",{…}]``; the root namespace is not named."""
    return f"4{kind}{body}" if namespace == "/" else f"4{kind}{namespace},{body}"


def encode_event(namespace: str, event: str, payload: Any) -> str:
    """An EVENT as Engine.IO text."""
    return encode_packet("2", namespace, encode_json([event, payload]))


def encode_text_frame(text: str) -> bytes:
    """``text`` as one unmasked WebSocket frame; the same bytes do for every socket, as no extension is negotiated."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False, extensions=[])


class Session(ABC):
    """One identity's presence in one namespace: a socket, or a user within this process."""

    def __init__(self, gateway: Gateway, *, sid: str, namespace: str, identity: Identity) -> None:
        #: What answers its events.
        self.gateway = gateway
        self.sid = sid
        self.namespace = namespace
        self.identity = identity
        #: The agent it speaks of in its events: an agent's own id, until v2 lets it join another agent's conversation;
        #: None for a user until v2 lets it join one.
        self.acting_agent = identity.id if identity.kind == "agent" else identity.agent_id
        #: When its token ends, in seconds since the epoch; a heartbeat may bring a later one.
        self.token_expires_at = identity.expires_at
        #: Whether the platform knows it; before that nothing is delivered.
        self.registered = False
        #: Where a ``message:send`` without conversationId goes.
        self.default_conversation: str | None = None

    @property
    def agent_id(self) -> str | None:
        """The agent's id, None for people."""
        return self.identity.id if self.identity.kind == "agent" else None

    @abstractmethod
    def emit(self, event: str, payload: Any) -> None:
        """Send one event."""

    def broadcast(self, event: str, payload: Any, frames: EncodedEvents) -> None:
        """Send one event that many get; sockets take it ready-made from ``frames``."""
        del frames
        self.emit(event, payload)


class EncodedEvents:
    """One event, encoded once for each namespace."""

    def __init__(self, *, lazily: bool) -> None:
        self.lazily = lazily
        self._frames: dict[str, tuple[str, bytes]] = {}

    def of(self, namespace: str, event: str, payload: Any) -> tuple[str, bytes]:
        """The event as text and as a WebSocket frame."""
        frames = self._frames.get(namespace)
        if frames is None:
            text = encode_event(namespace, event, payload)
            frames = self._frames[namespace] = (text, encode_text_frame(text))
        return frames


class Rooms:
    """All sessions, and which conversations each is in. The gateway and its events are its only writers."""

    def __init__(self) -> None:
        self._sessions: dict[Session, None] = {}
        self._by_owner: dict[str, dict[Session, None]] = {}
        self._by_sid: dict[str, Session] = {}
        self._rooms: dict[str, dict[Session, None]] = {}
        self._rooms_of: dict[Session, set[str]] = {}

    def add(self, session: Session) -> None:
        """A session was accepted: it hears broadcasts from now on."""
        self._sessions[session] = None
        self._by_owner.setdefault(session.identity.id, {})[session] = None
        self._by_sid[session.sid] = session
        self._rooms_of[session] = set()

    def remove(self, session: Session) -> bool:
        """A session is gone; False when it was gone already."""
        if session not in self._sessions:
            return False
        for conversation_id in list(self._rooms_of[session]):
            self.leave(session, conversation_id)
        del self._sessions[session], self._rooms_of[session], self._by_sid[session.sid]
        owners = self._by_owner[session.identity.id]
        del owners[session]
        if not owners:
            del self._by_owner[session.identity.id]
        return True

    def enter(self, session: Session, conversation_id: str) -> None:
        """Put a session into a conversation; a no-op when it is there or gone."""
        if session in self._sessions:
            self._rooms.setdefault(conversation_id, {})[session] = None
            self._rooms_of[session].add(conversation_id)

    def leave(self, session: Session, conversation_id: str) -> None:
        """Take a session out of a conversation; a no-op when it is not there."""
        self._rooms_of.get(session, set()).discard(conversation_id)
        room = self._rooms.get(conversation_id, {})
        room.pop(session, None)
        if not room:
            self._rooms.pop(conversation_id, None)

    def of_owner(self, owner_id: str) -> list[Session]:
        """The sessions of an agent or user."""
        return list(self._by_owner.get(owner_id, ()))

    def with_sids(self, sids: Iterable[str]) -> list[Session]:
        """The sessions of these socket ids; ids of sockets that are gone are left out."""
        return [session for sid in sids if (session := self._by_sid.get(sid)) is not None]

    def in_room(self, conversation_id: str) -> list[Session]:
        """The sessions in a conversation, in the order they came."""
        return list(self._rooms.get(conversation_id, ()))

    def rooms_of(self, session: Session) -> set[str]:
        """The conversations a session is in."""
        return set(self._rooms_of.get(session, ()))

    def __contains__(self, session: object) -> bool:
        """Whether the session is still there."""
        return session in self._sessions

    def __iter__(self) -> Iterator[Session]:
        """All sessions."""
        return iter(list(self._sessions))

    def __len__(self) -> int:
        """How many sessions there are."""
        return len(self._sessions)

    def emit(self, conversation_id: str, event: str, payload: Any, *, but: Session | None = None) -> None:
        """Send an event to a conversation."""
        _emit_to(self._rooms.get(conversation_id, {}), event, payload, but=but, lazily=False)

    def broadcast(self, event: str, payload: Any, *, but: Session | None = None) -> None:
        """Send an event to everyone, or to everyone ``but`` one."""
        _emit_to(self._sessions, event, payload, but=but, lazily=len(self._sessions) >= _LAZY_FROM)


def _emit_to(sessions: Iterable[Session], event: str, payload: Any, *, but: Session | None, lazily: bool) -> None:
    frames = EncodedEvents(lazily=lazily)
    for session in list(sessions):
        if session is not but:
            session.broadcast(event, payload, frames)
