"""Structured logs: one renderer for our own logs and for those of libraries, and nothing secret in any of them.

Before :func:`configure` (when the package is used as a library) our logs go to the standard library's loggers as they
come, so that nothing is written to standard output behind anybody's back.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from supervisor.core.clock import Clock

REDACTED: Final = "[redacted]"
#: Enough for a reason, too little for a conversation.
MAX_TEXT_CHARS: Final = 500
MAX_TRACEBACK_CHARS: Final = 10_000
_MAX_DEPTH, _MAX_ITEMS = 4, 50
_TRACEBACKS = frozenset({"exception", "traceback", "stack"})
#: engineio's INFO prints the CONNECT packet with its token (DESIGN §8), the models' clients print requests in their
#: DEBUG; the others say nothing that we do not.
_NOISY = (
    "aiosqlite",
    "alembic",
    "anthropic",
    "asyncio_pool",
    "engineio",
    "engineio.client",
    "engineio.server",
    "fastmcp",
    "google_genai",
    "httpx",
    "httpx2",
    "mcp",
    "openai",
    "socketio",
    "socketio.client",
    "socketio.server",
    "uvicorn",
    "uvicorn.access",
    "uvicorn.error",
)
_FIRST = ("timestamp", "level", "event", "agent", "conversation", "message_id", "trace_id")

_SECRET_KEY = re.compile(
    r"(?:^|[_-]|(?<=[a-z])(?=[A-Z]))(?i:secret|token|password|passwd|authorization|api_?key|cookie|jwt)$"
)
_SENSITIVE = r"(?:secret|token|password|passwd|api_?key)"
_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # JWTs; the signature may be missing where the text was cut.
    (re.compile(r"eyJ[\w-]{4,1000}\.[\w-]+(?:\.[\w-]*)?"), REDACTED),
    # Fernet ciphertexts, and keys (32 bytes in base64).
    (re.compile(r"gAAAA[\w-]{16,}={0,2}"), REDACTED),
    (re.compile(r"(?<![\w-])[\w-]{43}=(?![\w=-])"), REDACTED),
    (re.compile(r"(?i)\b(bearer)\s+(?!\[redacted|tokens?\b)[^\s\"',;]+"), rf"\1 {REDACTED}"),
    (re.compile(r"(?i)\b(basic)\s+[A-Za-z0-9+/]{12,}={0,2}"), rf"\1 {REDACTED}"),
    # secret=…, ?token=…, but not a reference (env:NAME), which says what to mend.
    (
        re.compile(rf"(?i)({_SENSITIVE})=(?!\[redacted|['\"]?(?:env|file):)(?:\"[^\"]*\"|'[^']*'|[^\s&,;)]+)"),
        rf"\1={REDACTED}",
    ),
    # "secret": "…" in JSON and in what Python prints of dicts.
    (
        re.compile(
            rf"(?i)([\"'][\w-]{{0,40}}{_SENSITIVE}[\"'])\s*:\s*(?:\"(?!env:|file:)[^\"]*\"|'(?!env:|file:)[^']*')"
        ),
        rf"\1: {REDACTED}",
    ),
    (re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]*(?=@)"), REDACTED),
    (re.compile(r"\bsk-[\w-]{12,}"), REDACTED),
)


#: What the lines of the running task concern; see :func:`concern`.
_concerned: ContextVar[Mapping[str, str]] = ContextVar("concerned")


def concern(*, agent: str, conversation: str, **more: str) -> None:
    """From here on all that this task logs concerns one message, and names it: our lines, the handler's, a library's.

    It holds for what the task starts, threads included, and is for the body of a task that has nothing else to do:
    there is no taking it back. What lives longer than the message is started in a context of its own.

    Args:
        more: ``message_id``, and ``trace_id`` where it has a trace.
    """
    _concerned.set({"agent": agent, "conversation": conversation, **more})


def _name_message(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    concerned = _concerned.get({})
    # A line about another agent is none about this message, though it was its doing.
    if event.get("agent", concerned.get("agent")) == concerned.get("agent"):
        for name, value in concerned.items():
            event.setdefault(name, value)
    return event


def redact(text: str) -> str:
    """Replace whatever looks like a token, a secret, a ciphertext or a key in ``text``."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _safe_text(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    # What is far past the limit cannot survive the cut: do not search it. A secret cut in two still looks like one.
    text = redact(text[: limit * 2])
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit}+ characters more)"
    return text


def _safe(value: object, depth: int = 0) -> Any:
    """A copy of ``value`` that may be written: no secrets, no payloads, nothing endless."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if depth < _MAX_DEPTH and not isinstance(value, str):
        if isinstance(value, Mapping):
            return _safe_mapping(value, depth)
        if isinstance(value, Sequence | AbstractSet):
            return [_safe(item, depth + 1) for _, item in zip(range(_MAX_ITEMS), value, strict=False)]
    return _safe_text(f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value))


def _safe_mapping(mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    pairs = zip(range(_MAX_ITEMS), mapping.items(), strict=False)
    return {_safe_text(str(key)): _safe_item(str(key), value, depth + 1) for _, (key, value) in pairs}


def _safe_item(key: str, value: object, depth: int) -> Any:
    if _SECRET_KEY.search(key) and value and not isinstance(value, bool | int | float):
        is_reference = isinstance(value, str) and value.startswith(("env:", "file:"))
        return value if is_reference else REDACTED
    return _safe(value, depth)


def mask(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` as they may be shown: whole, but for values that look secret by their name or by themselves."""
    return {key: _masked(key, value) for key, value in settings.items()}


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return mask(value)
    if isinstance(value, list | tuple):
        return [_masked(key, item) for item in value]
    if not isinstance(value, str):
        return value
    is_reference = value.startswith(("env:", "file:"))
    return REDACTED if value and _SECRET_KEY.search(key) and not is_reference else redact(value)


def redact_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    """The processor that every event passes last: nothing secret and no payload gets to the renderer."""
    safe: EventDict = {}
    for key, value in event.items():
        if key in _TRACEBACKS and isinstance(value, str):
            safe[key] = _safe_text(value, MAX_TRACEBACK_CHARS)
        else:
            safe[key] = _safe_item(key, value, 0)
    return safe


_listeners: Final[list[Callable[[Mapping[str, Any]], None]]] = []


def listen(hear: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
    """Have ``hear`` called with each line that is written, redacted as it is written, in whatever thread it comes from.

    Returns:
        What ends that.
    """
    _listeners.append(hear)

    def end() -> None:
        if hear in _listeners:
            _listeners.remove(hear)

    return end


def _tell(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    for hear in tuple(_listeners):
        hear(event)
    return dict(event)


def console_line(event: Mapping[str, Any], *, colours: bool) -> str:
    """A line as it is written for people, from what a listener was given."""
    return _Console(colours=colours)(None, "", dict(event))


def _timestamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    """Turn ``exc_info`` into text here, so that the text is redacted too."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    elif isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["exception"] = _traceback(info)
    return event


def _traceback(info: ExcInfo) -> str:
    return "".join(traceback.format_exception(*info)).rstrip()


def _ordered(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    ordered = {key: event.pop(key) for key in _FIRST if key in event}
    return ordered | dict(event)


def _json_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, default=str)


class _Console:
    """Lines for people: time, level, event, then ``key=value``; tracebacks below."""

    _COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
    _WIDTH: Final = 28

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        when = datetime.fromisoformat(event.pop("timestamp")).astimezone()
        level = str(event.pop("level", "info"))
        text = _one_line(str(event.pop("event", "")))
        event.pop("logger", None)
        tracebacks = ["\n".join(map(_one_line, str(event.pop(key)).split("\n"))) for key in _TRACEBACKS & event.keys()]
        pairs = " ".join(f"{self._paint('36', key)}={_shown(value)}" for key, value in event.items())
        head = (
            f"{self._paint('2', when.strftime('%H:%M:%S'))} {self._paint(self._COLOURS.get(level, ''), f'{level:8}')}"
        )
        line = f"{head} {self._paint('1', f'{text:{self._WIDTH}}' if pairs else text)} {pairs}".rstrip()
        return "\n".join([line, *tracebacks])

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and code else text


def _one_line(text: str) -> str:
    """``text`` without what could forge another line or move the cursor."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _one_line(value if isinstance(value, str) else str(value))
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"[\s\"=]", text) else text


def _wants_colour(stream: TextIO) -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


class _Handler(logging.StreamHandler[TextIO]):
    """Our one handler; a class of its own, so that configuring again finds it."""


_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    _name_message,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    _timestamp,
)


def configure(
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO",
    fmt: Literal["console", "json"] = "console",
    stream: TextIO | None = None,
) -> None:
    """Send all logs, ours and the libraries', to ``stream`` in one form; calling it again replaces what was.

    Args:
        level: the least level that is written; chatty libraries need at least WARNING whatever it is.
        fmt: ``console`` for people (coloured on a terminal unless ``NO_COLOR`` is set) or ``json``, an object a line.
        stream: standard error unless given. ``supervisor run`` gives standard output for ``json``: where a machine
            reads it, as in a container, the log is what the process writes.
    """
    target = stream if stream is not None else sys.stderr
    renderer: Processor = _json_line if fmt == "json" else _Console(colours=_wants_colour(target))
    handler = _Handler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=list(_SHARED),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exception,
                redact_event,
                _ordered,
                _tell,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [*(kept for kept in root.handlers if not isinstance(kept, _Handler)), handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; ``log.info("agent online", agent=agent_id)``, ``log.bind(agent=agent_id)``."""
    if not structlog.is_configured():
        structlog.configure(
            # Text, not LogRecord attributes: a handler's author may name a field "message" or "name".
            processors=[
                _name_message,
                redact_event,
                structlog.processors.format_exc_info,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=False,
        )
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


class OutageLog:
    """One line when an outage begins and one when it ends, however often things fail in between.

    Args:
        log: where the lines go.
        clock: what durations are measured with.
        subject: what a key is, the field it is logged under: ``agent``, ``host``.
        began, ended: the two events.
    """

    def __init__(
        self,
        log: structlog.typing.FilteringBoundLogger,
        clock: Clock,
        *,
        subject: str = "agent",
        began: str = "outage began",
        ended: str = "outage ended",
    ) -> None:
        self._log = log
        self._clock = clock
        self._subject = subject
        self._began = began
        self._ended = ended
        self._outages: dict[str, tuple[float, int]] = {}

    def failed(self, key: str, reason: str, **fields: object) -> bool:
        """``key`` failed: logged when it is the outage's first failure, else counted; tells which."""
        begun, failures = self._outages.get(key, (self._clock.monotonic(), 0))
        self._outages[key] = (begun, failures + 1)
        if failures:
            return False
        self._log.warning(self._began, **{self._subject: key}, reason=reason, **fields)
        return True

    def recovered(self, key: str, **fields: object) -> bool:
        """``key`` works: logged with duration and failures when it was out, else nothing; tells which."""
        if (outage := self._outages.pop(key, None)) is None:
            return False
        begun, failures = outage
        seconds = round(self._clock.monotonic() - begun, 3)
        self._log.info(self._ended, **{self._subject: key}, seconds=seconds, failures=failures, **fields)
        return True

    def forget(self, key: str) -> None:
        """``key`` is gone for good: its outage ends without a line."""
        self._outages.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._outages
