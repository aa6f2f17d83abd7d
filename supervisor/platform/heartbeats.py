"""Heartbeats: what an agent says of itself, and what the platform's answer brings. No I/O: who sends one is elsewhere.

Sources: docs/protocol.md#7-findings, 5 (REST) and docs/protocol.md#8-third-generation, 3 (``agent:heartbeat``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from supervisor.core.errors import PlatformError, Refusal, Verdict
from supervisor.core.records import Sleep
from supervisor.platform.hosts.api import unknown_agent
from supervisor.protocol.text import clean_text, is_id

Status = Literal["idle", "busy", "sleep"]
TaskKind = Literal["work", "reminder"]

_MAX_REASON_CHARS: Final = 200
_MAX_TASK_CHARS: Final = 20_000
_MAX_REMINDERS: Final = 100


@dataclass(frozen=True, slots=True)
class Task:
    """Something that a heartbeat has brought for the agent to do.

    Args:
        id: the platform's id of the work or the reminder.
        text: what is to be done, in the platform's words.
        details: the platform's own facts of it: ``title``, ``type``, ``status``, ``priorityLevel``.
    """

    kind: TaskKind
    id: str
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What came back; all of it may be missing. An instruction in it is left alone: the configuration has all of it.

    Args:
        tasks: a work, or else reminders.
        token: a fresh token; comes when less than an hour of the present one is left.
    """

    tasks: tuple[Task, ...] = ()
    token: str | None = field(default=None, repr=False)


class Pulse:
    """What one agent's heartbeats say, and where that goes which they bring.

    An agent that says ``idle`` and does not do the work that it is handed is put to sleep, and then nobody's messages
    reach it. So works are asked for only while they are really taken: with ``mcpConnected: false`` none are handed
    out. A platform that hands out works all the same gets ``busy`` from then on.

    Args:
        takes_tasks: whether works and reminders are to reach the handler now.
        working: whether a message is being answered.
        sleep: the agent's sleep; None while it is awake.
        on_task: told each work and reminder, where they are taken.
    """

    def __init__(
        self,
        *,
        takes_tasks: Callable[[], bool],
        working: Callable[[], bool],
        sleep: Callable[[], Sleep | None],
        on_task: Callable[[Task], None],
    ) -> None:
        self._takes_tasks = takes_tasks
        self._working = working
        self._sleep = sleep
        self._on_task = on_task
        self._unasked = False

    @property
    def wanted_by_rest(self) -> bool:
        """Whether a heartbeat by REST is of use: it only fetches works (docs/protocol.md#7-findings, 5)."""
        return self._takes_tasks() and self._sleep() is None

    def payload(self) -> dict[str, Any]:
        """The payload of an ``agent:heartbeat``."""
        sleep = self._sleep()
        if sleep is not None:
            told: dict[str, Any] = {"reason": sleep.reason, "since": _iso(sleep.since)}
            if sleep.until is not None:
                told["until"] = _iso(sleep.until)
            return {"status": "sleep", "mcpConnected": False, "sleep": told}
        return {"status": self._status(), "mcpConnected": self._takes_tasks()}

    def body(self) -> dict[str, Any]:
        """The body of a heartbeat by REST, which knows no ``mcpConnected``: only ``idle`` asks for work."""
        return {"status": self._status() if self._takes_tasks() else "busy"}

    def _status(self) -> Status:
        return "busy" if self._working() or (self._unasked and not self._takes_tasks()) else "idle"

    def take(self, answer: HeartbeatAnswer) -> None:
        """Hand on the works and reminders of an answer; the token is the caller's.

        What was handed out before the agent fell asleep is handed out again once it is awake: taken now, it would end
        unanswered like all that comes meanwhile.
        """
        if self._sleep() is not None:
            return
        if answer.tasks and not self._takes_tasks():
            self._unasked = True
            return
        for task in answer.tasks:
            self._on_task(task)


def quiet_pulse() -> Pulse:
    """The heartbeats of somebody who only asks: with ``busy`` and no tools the platform hands out no work."""
    return Pulse(takes_tasks=lambda: False, working=lambda: True, sleep=lambda: None, on_task=lambda _task: None)


def parse_heartbeat(answer: object) -> HeartbeatAnswer:
    """Read the answer to a heartbeat, by event or by REST; what is malformed in it is left out.

    Raises:
        PlatformError: it was refused: REJECT where the agent is suspended or gone, else RETRY.
    """
    if not isinstance(answer, Mapping):
        raise PlatformError(f"the heartbeat was answered with {type(answer).__name__}")
    if answer.get("success") is not True:
        error = answer.get("error") or answer.get("message")
        raise heartbeat_refusal(error if isinstance(error, str) else "no reason given")
    token = answer.get("token")
    return HeartbeatAnswer(_tasks(answer), token if isinstance(token, str) and token else None)


def heartbeat_refusal(error: str) -> PlatformError:
    """The error for a refused heartbeat, with what the platform's text asks for."""
    reason = clean_text(error, _MAX_REASON_CHARS)[0]
    refusal = Refusal.UNKNOWN if unknown_agent(error) else None
    if error.startswith("Agent is suspended"):
        refusal = Refusal.SUSPENDED
    verdict = Verdict.RETRY if refusal is None else Verdict.REJECT
    return PlatformError(f"the platform refused the heartbeat: {reason}", verdict, refusal=refusal)


def _tasks(answer: Mapping[str, Any]) -> tuple[Task, ...]:
    """The work of an answer, else its reminders."""
    system = answer.get("systemTask")
    system = system if isinstance(system, Mapping) else {}
    work = answer.get("work")
    facts = work if isinstance(work, Mapping) else system if system.get("type") == "work" else {}
    message = answer.get("systemMessage")
    if (work_id := _id(facts.get("id"))) is not None:
        details = {name: facts[name] for name in ("title", "type", "status", "priorityLevel") if _is_plain(facts, name)}
        text = message if isinstance(message, str) and message.strip() else str(details.get("title", ""))
        return (Task("work", work_id, clean_text(text, _MAX_TASK_CHARS)[0], details),)
    reminders = system.get("reminders")
    found = [_reminder(raw) for raw in reminders[:_MAX_REMINDERS]] if isinstance(reminders, list) else []
    return tuple(task for task in found if task is not None)


def _reminder(raw: object) -> Task | None:
    if not isinstance(raw, Mapping):
        return None
    reminder_id, content = _id(raw.get("id")), raw.get("content")
    if reminder_id is None or not isinstance(content, str) or not content.strip():
        return None
    return Task("reminder", reminder_id, clean_text(content, _MAX_TASK_CHARS)[0])


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and is_id(value) else None


def _is_plain(facts: Mapping[str, Any], name: str) -> bool:
    """Whether a fact is a short text or a number."""
    value = facts.get(name)
    return (isinstance(value, str) and len(value) <= _MAX_TASK_CHARS) or isinstance(value, int)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
