"""From an event to its ack, with the switches that strike on the way."""

from dataclasses import dataclass
from typing import Any, TypeVar

from supervisor.sandbox.gateways.base import BrokenPayloadError, Receipt
from supervisor.sandbox.gateways.validation import RefusedError
from supervisor.sandbox.sockets.session import SocketSession
from supervisor.sandbox.world.faults import CutSends, Delay, DropAcks, Fault, OddAcks, RefuseEvents, ShuffleSends
from supervisor.sandbox.world.shared import Shared

_F = TypeVar("_F", bound=Fault)


@dataclass(slots=True)
class Call:
    """One event that waits for its ack."""

    session: SocketSession
    event: str
    ack_id: int | None
    drop_ack: bool
    drop_confirmation: bool
    ack_delay_seconds: float
    ack_form: str = ""

    def settle(self, receipt: Receipt) -> None:
        """Send ``message:sent`` or ``message:error``, then the ack."""
        if receipt.confirmation is not None and not self.drop_confirmation:
            self.session.emit(*receipt.confirmation)
        self.reply(receipt.ack)

    def reply(self, payload: dict[str, Any]) -> None:
        """Send the ack, if one was asked for."""
        if self.ack_id is not None and not self.drop_ack:
            forms = {"empty": (), "null": (None,), "word": ("received",), "node": (None, payload)}
            self.session.ack(self.ack_id, *forms.get(self.ack_form, (payload,)))


class Calls:
    """Answers events. The switches here concern agents only, so that people can go on using the sandbox."""

    def __init__(self, shared: Shared) -> None:
        self._state = shared.state
        self._faults = shared.faults
        self._timers = shared.timers
        self._shuffled: dict[SocketSession, list[tuple[Call, Any]]] = {}

    def forget(self) -> None:
        """Drop what waits to be stored: the platform went down."""
        self._shuffled.clear()

    def begin(self, session: SocketSession, event: str, ack_id: int | None) -> Call:
        """Take an event in; decides which of its answers will be lost or late."""
        fault = self._fault(DropAcks, session)
        struck = fault is not None and event in fault.events
        if struck:
            self._strike(DropAcks, session)
        odd = self._fault(OddAcks, session)
        odd = self._strike(OddAcks, session) if odd is not None and event in odd.events else None
        delay = self._fault(Delay, session)
        return Call(
            session,
            event,
            ack_id,
            drop_ack=struck,
            drop_confirmation=fault is not None and struck and fault.confirmations,
            ack_delay_seconds=delay.event_ack_seconds if delay else 0.0,
            ack_form=odd.form if odd else "",
        )

    def handle(self, call: Call, payload: Any) -> None:
        """Answer any event but ``message:send``."""
        refusal = self._fault(RefuseEvents, call.session)
        if refusal is not None and call.event in refusal.events:
            self._strike(RefuseEvents, call.session)
            self._timers.later(call.ack_delay_seconds, call.reply, {"success": False, "error": refusal.error})
            return
        try:
            answer = call.session.gateway.handle(call.session, call.event, payload)
        except BrokenPayloadError:
            call.session.emit("exception", {"status": "error", "message": "Internal server error"})
        else:
            self._timers.later(call.ack_delay_seconds, call.reply, answer)

    def send(self, call: Call, payload: Any) -> None:
        """Answer a ``message:send``, or let it wait for others that are in flight with it."""
        shuffle = self._fault(ShuffleSends, call.session)
        if shuffle is None:
            self._store(call, payload)
            return
        waiting = self._shuffled.setdefault(call.session, [])
        waiting.append((call, payload))
        if len(waiting) == 1:
            self._timers.later(shuffle.window_seconds, self._store_shuffled, call.session)

    def _store_shuffled(self, session: SocketSession) -> None:
        waiting = self._shuffled.pop(session, [])
        if len(waiting) > 1:
            self._strike(ShuffleSends, session)
        for call, payload in reversed(waiting):
            self._store(call, payload)

    def _store(self, call: Call, payload: Any) -> None:
        session = call.session
        cut = self._strike(CutSends, session)
        if cut is not None and cut.when == "before_store":
            session.engine.terminate("transport error", abort=True)
            return
        try:
            receipt = session.gateway.send(session, payload)
        except RefusedError as error:
            self._state.log.add("refused", session.agent_id, error=str(error), payload=payload)
            receipt = session.gateway.refusal(str(error))
        if cut is not None:
            session.engine.terminate("transport error", abort=True)
            return
        self._timers.later(call.ack_delay_seconds, call.settle, receipt)

    def _fault(self, switch: type[_F], session: SocketSession) -> _F | None:
        return self._faults.get(switch, session.agent_id) if session.agent_id else None

    def _strike(self, switch: type[_F], session: SocketSession) -> _F | None:
        return self._faults.strike(switch, session.agent_id) if session.agent_id else None
