"""What `webhook` and `command` say to a program outside, and how its answer is read: JSON both ways.

The question is one object: ``version``, ``agent`` {id, name}, ``conversation``, ``message`` (the platform's own
``message:new``), ``idempotency_key``, and ``history`` [{role, content, at}] where the settings ask for it. Beside what
the platform sends a message has, where it is known, ``sender`` {id, name, platform, channel, connection},
``attachment_details`` [{name, media_type, size}] in the order of ``attachments``, which are URLs, and for what nobody
has said ``source`` (``work`` or ``reminder``) with ``task`` {id, title, type, status, priority_level}.

The answer is a part, a list of parts, or null for nothing. A part is text, or an object, told by its ``type``:

* without one, or ``text``, ``error``, ``system``: ``content``, and perhaps ``thinking`` (text, or {content,
  duration_ms, visible}), ``attachments``, ``usage`` {prompt_tokens, completion_tokens, model, cached_tokens, provider,
  reasoning_tokens, estimated}, ``latency_ms``, ``error``, ``metadata``, ``sources`` [{type: ``rag``, ``web``, ``tool``
  or ``memory``, content, label, url, score, collection_id, tool_name}]
* ``thinking``: ``content``, ``duration_ms``, ``visible``
* ``tool_call``: ``name``, ``arguments``, ``id``, ``content``
* ``tool_result``: ``id`` and ``name`` of its call, ``result``, ``success``, ``error``, ``duration_ms``, ``content``
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from supervisor.handler import (
    Context,
    HistoryItem,
    Message,
    Part,
    Permanent,
    Reply,
    Source,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)

from ._bounded import TooManyPartsError, check_parts
from ._charset import Recoder, recoded

VERSION: Final = 1
#: Bounds of one answer; the platform takes about a megabyte in one message.
MAX_PART_BYTES: Final = 1_000_000
MAX_ANSWER_BYTES: Final = 10_000_000
MAX_PARTS: Final = 200
MAX_HISTORY: Final = 200


class InvalidAnswerError(Permanent):
    """The program answered something that is no part; the message says what, for its author."""


class CutOffError(Exception):
    """The answer ended too early; another attempt may get all of it."""


class _Shape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A misspelt field is named, not dropped."""


class _Thinking(_Shape):
    content: str
    type: Literal["thinking"] = "thinking"
    duration_ms: float = 0.0
    visible: bool = True

    def part(self) -> Thinking:
        return Thinking(self.content, self.duration_ms, self.visible)


class _Usage(_Shape):
    prompt_tokens: int
    completion_tokens: int
    model: str = "unknown"
    cached_tokens: int = 0
    provider: str = "unknown"
    reasoning_tokens: int = 0
    estimated: bool = False

    def part(self) -> Usage:
        return Usage(**msgspec.structs.asdict(self))


class _Source(_Shape):
    type: Literal["rag", "web", "tool", "memory"]
    content: str
    label: str | None = None
    url: str | None = None
    score: float | None = None
    collection_id: str | None = None
    tool_name: str | None = None

    def part(self) -> Source:
        return Source(**msgspec.structs.asdict(self))


class _Reply(_Shape):
    content: str
    type: Literal["text", "error", "system"] | None = None
    thinking: _Thinking | str | None = None
    attachments: tuple[str, ...] = ()
    usage: _Usage | None = None
    latency_ms: float | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None
    sources: tuple[_Source, ...] = ()

    def part(self) -> Reply:
        thinking = _Thinking(content=self.thinking) if isinstance(self.thinking, str) else self.thinking
        return Reply(
            self.content,
            thinking.part() if thinking else None,
            self.attachments,
            self.usage.part() if self.usage else None,
            self.latency_ms,
            self.type,
            self.error,
            self.metadata,
            tuple(source.part() for source in self.sources),
        )


class _ToolCall(_Shape):
    name: str
    id: str
    type: Literal["tool_call"] = "tool_call"
    arguments: dict[str, Any] | str = {}
    content: str = ""

    def part(self) -> ToolCall:
        return ToolCall(self.name, self.arguments, id=self.id, content=self.content)


class _ToolResult(_Shape):
    name: str
    id: str
    result: Any
    type: Literal["tool_result"] = "tool_result"
    success: bool = True
    error: str | None = None
    duration_ms: float | None = None
    content: str = ""

    def part(self) -> ToolResult:
        call = ToolCall(self.name, id=self.id)
        return ToolResult(call, self.result, self.success, self.error, self.duration_ms, self.content)


_PartShape = _Thinking | _Reply | _ToolCall | _ToolResult
_SHAPES: Final[Mapping[object, type[_PartShape]]] = {
    "thinking": _Thinking,
    "tool_call": _ToolCall,
    "tool_result": _ToolResult,
}


async def question(message: Message, ctx: Context, history: int) -> bytes:
    """What the program is asked, as JSON; ``history`` is how many earlier messages it wants."""
    asked: dict[str, Any] = {
        "version": VERSION,
        "agent": {"id": ctx.agent.id, "name": ctx.agent.name},
        "conversation": ctx.conversation,
        "message": _as_received(message),
        "idempotency_key": ctx.idempotency_key,
    }
    if history:
        items = await ctx.history(history)
        asked["history"] = [_remembered(item) for item in items]
    return msgspec.json.encode(asked)


def _remembered(item: HistoryItem) -> dict[str, Any]:
    line: dict[str, Any] = {"role": item.role, "content": item.content, "at": item.at}
    return {**line, "name": item.name} if item.name else line


def _as_received(message: Message) -> dict[str, Any]:
    """The message in the platform's own shape, without what it does not have."""
    given = msgspec.to_builtins(message).items()
    fields = {name: value for name, value in given if value not in (None, (), [], {}, False) and name != "others"}
    if message.earlier:
        fields["earlier"] = [_as_received(one) for one in message.earlier]
    if message.source == "conversation":
        del fields["source"]
    author = {"agentId": fields.pop("senderAgentId", None), "userId": fields.pop("senderUserId", None)}
    if any(author.values()):
        fields["createdBy"] = {name: value for name, value in author.items() if value}
    return {"content": "", **fields}


def parts_of(raw: bytes, charset: str | None = None) -> list[Part]:
    """The parts of a whole answer in JSON.

    Args:
        charset: the one that its sender named.

    Raises:
        InvalidAnswerError: it is no JSON, or not of the shapes above.
    """
    try:
        text = recoded(raw, charset)
    except UnicodeDecodeError as error:
        raise _unreadable(error, raw) from None
    value = _decoded(text)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if len(values) > MAX_PARTS:
        raise InvalidAnswerError(f"the answer has {len(values)} parts; {MAX_PARTS} are allowed")
    return [_part(one) for one in values]


def part_of(raw: bytes) -> Part:
    """One part of a streamed answer.

    Raises:
        InvalidAnswerError: it is no JSON, or not of the shapes above.
    """
    return _part(_decoded(raw))


def _decoded(raw: bytes) -> Any:
    try:
        check_parts(raw)
        return msgspec.json.decode(raw)
    except TooManyPartsError as error:
        raise InvalidAnswerError(f"the answer is not read: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidAnswerError(f"the answer is not JSON ({error}): {shown(raw)}") from None


def _part(value: Any) -> Part:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise InvalidAnswerError(
            f"a part of the answer is neither text nor an object: {shown(msgspec.json.encode(value))}"
        )
    kind = value.get("type")
    try:
        shape: _PartShape = msgspec.convert(value, _SHAPES.get(kind, _Reply) if isinstance(kind, str) else _Reply)
    except msgspec.ValidationError as error:
        raise InvalidAnswerError(f"a part of the answer is not of the documented shape: {error}") from None
    return shape.part()


def text_of(raw: bytes, charset: str | None = None) -> str:
    """An answer in plain text, without the space around it; empty for nothing.

    Args:
        charset: the one that its sender named; UTF-8 without.

    Raises:
        InvalidAnswerError: it is not of that charset.
    """
    try:
        return recoded(raw, charset).decode().strip()
    except UnicodeDecodeError as error:
        raise _unreadable(error, raw) from None


def _unreadable(error: UnicodeDecodeError, raw: bytes) -> InvalidAnswerError:
    return InvalidAnswerError(f"the answer is not text in {error.encoding.upper()}: {shown(raw)}")


def shown(raw: bytes) -> str:
    """The beginning of an answer, for an error message."""
    text = raw[:120].decode("utf-8", "replace")
    return repr(text if len(raw) <= 120 else f"{text}…")


class Lines:
    """Cuts a stream into lines and counts what has come.

    Args:
        what: who sends it, for errors.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._buffer = bytearray()
        self._received = 0
        self._scanned = 0

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The lines that ``data`` completes, without their ends (LF or CRLF).

        Raises:
            InvalidAnswerError: the answer or one line of it is too large.
        """
        self._received += len(data)
        if self._received > MAX_ANSWER_BYTES:
            raise InvalidAnswerError(f"{self._what} gave more than {MAX_ANSWER_BYTES} bytes")
        self._buffer += data
        lines = []
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            lines.append(bytes(self._buffer[:end]).removesuffix(b"\r"))
            del self._buffer[: end + 1]
            self._scanned = 0
        self._scanned = len(self._buffer)
        if self._scanned > MAX_PART_BYTES or any(len(line) > MAX_PART_BYTES for line in lines):
            raise InvalidAnswerError(f"{self._what} gave a line of more than {MAX_PART_BYTES} bytes")
        return lines


class StreamedParts:
    """Reads the parts of a stream as they come: NDJSON, a part to a line, or server-sent events, a part to an event.

    Args:
        events: whether it is server-sent events; ``data: [DONE]`` ends them early, as model APIs do.
        what: who sends it, for errors.
        charset: the one that its sender named.
    """

    def __init__(self, what: str, *, events: bool = False, charset: str | None = None) -> None:
        self._lines = Lines(what)
        self._recoder = Recoder(charset)
        self._events = events
        self._data: list[bytes] = []
        self._count = 0
        self.done = False

    def feed(self, data: bytes) -> list[Part]:
        """The parts that ``data`` completes.

        Raises:
            InvalidAnswerError: it is too large, too much, or one is of no known shape.
        """
        return self._read(data, final=False)

    def _read(self, data: bytes, *, final: bool) -> list[Part]:
        try:
            text = self._recoder.feed(data, final=final) + (b"\n\n" if final else b"")
        except UnicodeDecodeError as error:
            raise _unreadable(error, data) from None
        parts: list[Part] = []
        for line in () if self.done else self._lines.feed(text):
            raw = self._event(line) if self._events else line.strip()
            if self.done:
                break
            if raw:
                self._count += 1
                if self._count > MAX_PARTS:
                    raise InvalidAnswerError(f"the answer has more than {MAX_PARTS} parts")
                parts.append(part_of(raw))
        return parts

    def _event(self, line: bytes) -> bytes:
        """The data of the event that ``line`` ends; empty while it goes on."""
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        if line or not self._data:
            return b""
        data, self._data = b"\n".join(self._data), []
        self.done = data == b"[DONE]"
        return data

    def end(self) -> list[Part]:
        """What is left when the stream ends.

        Raises:
            CutOffError: it ended in the middle of a part.
        """
        try:
            return self._read(b"", final=True)
        except InvalidAnswerError as error:
            raise CutOffError(f"the stream ended in the middle of a part: {error}") from None
