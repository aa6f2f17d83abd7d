"""The way of a message: received, queued, handled, sent, acknowledged."""

from __future__ import annotations

from supervisor.core.clock import Clock
from supervisor.telemetry.metrics.connections import WORDS
from supervisor.telemetry.metrics.families import WORK_SECONDS, Family, Vocabulary, Workshop
from supervisor.telemetry.metrics.instruments import Histogram

OUTCOMES = ("done", "retried", "dead", "timeout", "cancelled", "released", "lost")
DROPS = (
    "own_echo",
    "duplicate",
    "inbox_full",
    "history_cut",
    "loop_guard",
    "not_journaled",
    "asleep",
    "skip_agent",
    "type",
)
SENDS = ("acked", "refused", "timeout", "lost", "unknown")
UNKNOWN = ("event", "message_type")


class MessageMetrics:
    """The instruments of messages, and their verbs."""

    def __init__(self, make: Workshop, handlers: Vocabulary, clock: Clock) -> None:
        self._clock = clock
        outcomes = Vocabulary(0, *OUTCOMES)
        self._received = make.counters(
            "supervisor_messages_received_total", "Messages accepted for the journal.", "messages", handler=handlers
        )
        self._handled = make.counters(
            "supervisor_messages_handled_total",
            "Attempts of the handler at a message, by how they ended: done, retried (to be tried again), dead or "
            "timeout (a dead letter), cancelled (by a person), released (a stop of ours), lost (erased meanwhile).",
            "attempts",
            handler=handlers,
            outcome=outcomes,
        )
        self._handle = make.histograms(
            "supervisor_message_handle_seconds",
            "Time that the handler took for an attempt at a message, in seconds.",
            "seconds",
            WORK_SECONDS,
            handler=handlers,
            outcome=outcomes,
        )
        self._queue = self._timed(make, handlers, "queue", "Wait from received to the handler's start")
        self._send = self._timed(make, handlers, "send", "Time from the last reply being ready to its acknowledgement")
        self._latency = self._timed(
            make, handlers, "latency", "Time from received to the last reply's acknowledgement: queue, handle and send"
        )
        self._passages(make)

    def _passages(self, make: Workshop) -> None:
        self._dropped = make.counters(
            "supervisor_messages_dropped_total",
            "Messages, or malformed fields of them, that were not accepted for the journal, by reason.",
            "messages",
            reason=Vocabulary(WORDS, *DROPS),
        )
        self._unknown = make.counters(
            "supervisor_unknown_total",
            "What the platform sent and this version does not know, in events, by kind; it did no harm.",
            "events",
            kind=Vocabulary(WORDS, *UNKNOWN),
        )
        self._sends = make.counters(
            "supervisor_sends_total",
            "Sends of a reply to the platform, by how they ended: acked, refused, timeout or lost (sent again), "
            "unknown.",
            "sends",
            outcome=Vocabulary(WORDS, *SENDS),
        )
        self._acks = make.histogram(
            "supervisor_send_ack_seconds",
            "Time from a send of a reply to its acknowledgement, in seconds.",
            "seconds",
            WORK_SECONDS,
        )
        for family, words in ((self._dropped, DROPS), (self._unknown, UNKNOWN), (self._sends, SENDS)):
            for word in words:
                family.begin(word)

    @staticmethod
    def _timed(make: Workshop, handlers: Vocabulary, what: str, text: str) -> Family[Histogram]:
        name = f"supervisor_message_{what}_seconds"
        return make.histograms(name, f"{text}, in seconds.", "seconds", WORK_SECONDS, handler=handlers)

    def handler_known(self, handler: str) -> None:
        """An agent has this handler: its series are there before its first message, and its first failure."""
        self._received.begin(handler)
        for outcome in OUTCOMES:
            self._handled.begin(handler, outcome)
        self._handle.begin(handler, "done")
        for family in (self._queue, self._send, self._latency):
            family.begin(handler)

    def received(self, handler: str) -> None:
        """A message was accepted into the journal."""
        self._received[handler].total += 1

    def dropped(self, reason: str, count: int = 1) -> None:
        """``count`` messages were not accepted; ``reason``: one of :data:`DROPS`."""
        self._dropped[reason].total += count

    def unknown(self, kind: str) -> None:
        """The platform sent what this version does not know, which did no harm; ``kind``: one of :data:`UNKNOWN`."""
        self._unknown[kind].total += 1

    def queued(self, handler: str, seconds: float) -> None:
        """A message waited ``seconds`` for its handler."""
        self._queue[handler].observe(seconds)

    def handled(self, handler: str, outcome: str, seconds: float, trace_id: str = "") -> None:
        """An attempt of a handler ended after ``seconds``.

        Args:
            outcome: one of :data:`OUTCOMES`.
            trace_id: the message's, if it has a trace.
        """
        self._handled[handler, outcome].total += 1
        self._handle[handler, outcome].observe(seconds)
        if trace_id:
            self._handle[handler, outcome].exemplify(seconds, trace_id, self._clock.now())

    def answered(self, handler: str, latency_seconds: float, send_seconds: float, trace_id: str = "") -> None:
        """The last reply to a message was acknowledged.

        Args:
            latency_seconds: since the message came.
            send_seconds: since that reply was ready.
            trace_id: the message's, if it has a trace.
        """
        self._latency[handler].observe(latency_seconds)
        self._send[handler].observe(send_seconds)
        if trace_id:
            self._latency[handler].exemplify(latency_seconds, trace_id, self._clock.now())

    def sent(self, outcome: str, ack_seconds: float | None = None) -> None:
        """A send ended; ``outcome``: one of :data:`SENDS`; ``ack_seconds``: until its acknowledgement, if one came."""
        self._sends[outcome].total += 1
        if ack_seconds is not None:
            self._acks.observe(ack_seconds)
