"""Structured logs: one renderer for our own logs and for those of libraries, and nothing secret in any of them.

Before :func:`configure` (when the package is used as a library) our logs go to the standard library's loggers as they
come, so that nothing is written to standard output behind anybody's back.
"""

from __future__ import annotations

import codecs
import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from supervisor.telemetry import line_writer
from supervisor.telemetry.console import Console, wants_colour
from supervisor.telemetry.failures import traceback_of
from supervisor.telemetry.line_writer import LineWriter
from supervisor.telemetry.redaction import redact_event
from supervisor.telemetry.standard_streams import diverted, writer_of

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor

#: Libraries that are kept to warnings. engineio's INFO prints the CONNECT packet with its token, the models' clients
#: print requests in their DEBUG; the others say nothing that our own lines do not.
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

#: What the lines of the running task are about; see :func:`bind_message`.
_bound: ContextVar[Mapping[str, str]] = ContextVar("bound")


def bind_message(*, agent: str, conversation: str, **more: str) -> None:
    """Have every line that this task logs from now on name one message: our lines, the handler's, a library's.

    The binding passes to whatever the task starts, threads included, and cannot be undone: it is for a task that ends
    with the message. What lives longer than the message is started in a context of its own.

    Args:
        more: ``message_id``, and ``trace_id`` where it has a trace.
    """
    _bound.set({"agent": agent, "conversation": conversation, **more})


def _name_message(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    bound = _bound.get({})
    # A line about another agent is not about this message, even where the message caused the line.
    if event.get("agent", bound.get("agent")) == bound.get("agent"):
        for name, value in bound.items():
            event.setdefault(name, value)
    return event


_listeners: Final[list[Callable[[Mapping[str, Any]], None]]] = []


def listen(listener: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
    """Have ``listener`` called with each line that is written, redacted, in the thread that wrote it.

    Returns:
        What ends the calls.
    """
    _listeners.append(listener)

    def end() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return end


def _publish(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    for listener in tuple(_listeners):
        listener(event)
    return dict(event)


def _timestamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    """Turn ``exc_info`` into text here, so that the text is redacted too."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exception()
    elif isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        event["exception"] = traceback_of(info).rstrip()
    return event


def _ordered(_logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    ordered = {key: event.pop(key) for key in _FIRST if key in event}
    return ordered | dict(event)


class _Json:
    """A line for machines; in ASCII where the stream's encoding would make something else of the rest than UTF-8."""

    def __init__(self, encoding: str | None) -> None:
        self._ascii = codecs.lookup(encoding or "utf-8").name != "utf-8"

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        return json.dumps(event, ensure_ascii=self._ascii, default=str)


class _Handler(logging.Handler):
    """Our one handler: renders where the line was logged, and leaves the writing to the writer's thread."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        shared = writer_of(stream)
        self.writer = shared or LineWriter(stream)
        self._owns_writer = shared is None
        for other in diverted():
            other.notice = self.lost_elsewhere
        self.writer.notice = self.lost

    def retire(self) -> None:
        """Write what there is, for a moment; there is a successor."""
        self.writer.flush(line_writer.LAST_SECONDS)
        if self._owns_writer:
            self.writer.close(0.0)

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written; never waits for whoever reads, never raises."""
        try:
            line = self.format(record)
        except BaseException as error:  # noqa: BLE001  a defect of whoever logs, which is said and costs nobody else
            line = self.render(
                "error",
                "log_line_unwritable",
                source=record.name,
                file=f"{record.pathname}:{record.lineno}",
                reason=type(error).__name__,
            )
        self.writer.put(f"{line}\n")

    def render(self, level: str, event: str, **fields: object) -> str:
        """A line of our own, rendered outside any logger."""
        line = {"event": event, **fields, "level": level, "logger": __name__}
        return self.format(
            logging.makeLogRecord({"msg": _timestamp(None, level, line), "_logger": None, "_name": level})
        )

    def lost(self, lines: int) -> str:
        """What stands where lines are missing."""
        remedy = "nobody read, or the disk is full: they were dropped so that nothing waits"
        return f"{self.render('warning', 'log_lines_lost', lines=lines, remedy=remedy)}\n"

    def lost_elsewhere(self, lines: int) -> str:
        """Say that lines are missing in another stream; nothing stands there."""
        self.writer.put(f"{self.render('warning', 'printed_lines_lost', lines=lines)}\n")
        return ""


def _shared() -> list[Processor]:
    """What a line goes through, whoever logs it."""
    import structlog  # noqa: PLC0415

    return [
        structlog.contextvars.merge_contextvars,
        _name_message,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _timestamp,
    ]


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
    import structlog  # noqa: PLC0415  it brings much else, and commands that only read log nothing

    target = stream if stream is not None else sys.stderr
    renderer: Processor = (
        _Json(getattr(target, "encoding", None)) if fmt == "json" else Console(colours=wants_colour(target))
    )
    handler = _Handler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exception,
                redact_event,
                _ordered,
                _publish,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    former = [one for one in root.handlers if isinstance(one, _Handler)]
    root.handlers = [*(kept for kept in root.handlers if not isinstance(kept, _Handler)), handler]
    for one in former:
        one.retire()
    root.setLevel(level)
    for name in _NOISY:
        library = logging.getLogger(name)
        library.setLevel(max(logging.WARNING, root.level))
        # Configuring uvicorn without its access log cuts that logger off, for the whole process.
        library.propagate, library.disabled = True, False
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def flush(seconds: float = line_writer.LAST_SECONDS) -> bool:
    """Have all that was logged and printed so far written, for so long at most; whether it is."""
    return line_writer.flush_all(seconds)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger; ``log.info("agent online", agent=agent_id)``, ``log.bind(agent=agent_id)``."""
    import structlog  # noqa: PLC0415

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
    return _logger(name)


class AgentLog:
    """The logger of a class whose objects are an agent's each: bound when there is something to say, and kept by none.

    Args:
        name: the logger's; the object has the agent's id in ``_agent_id``.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, _kind: type | None = None) -> Any:
        return get_logger(self._name).bind(agent=owner._agent_id)


@lru_cache(maxsize=256)
def _logger(name: str) -> FilteringBoundLogger:
    """One for each name: it is asked what is configured each time that it is used."""
    import structlog  # noqa: PLC0415

    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger
