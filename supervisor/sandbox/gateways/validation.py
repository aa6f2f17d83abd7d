"""What the platform checks in a ``message:send``, in the wording of its own errors.

v1 validates against a schema, casts scalars and drops unknown fields; v2 requires ``content`` and nothing else. The
wording of every error that occurs in the recordings is taken from there; the rest follows the same pattern.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from supervisor.sandbox.world.ids import is_object_id, new_object_id, timestamp

ROLES = ("user", "assistant", "system", "tool")
TYPES = ("text", "thinking", "tool_call", "tool_result", "error", "system")

#: v1 keeps what the sender says of these.
STATUSES = ("sending", "sent", "delivered", "failed")

_ATTACHMENT = re.compile(r"(https?://|document:).+", re.DOTALL)
_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")

_ABSENT = object()


class RefusedError(Exception):
    """The platform refuses the event; the message is what the client is told."""


class _CastError(Exception):
    """A value cannot become what the schema wants."""


def inspect_value(value: Any) -> str:
    """``value`` as Node prints it within the platform's errors: ``{ a: 1 }``, ``[ 1, 'x' ]``."""
    if isinstance(value, Mapping):
        items = (
            f"{key if _PLAIN_KEY.fullmatch(key) else _quote(key)}: {inspect_value(item)}" for key, item in value.items()
        )
        inner = ", ".join(items)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        inner = ", ".join(inspect_value(item) for item in value)
        return f"[ {inner} ]" if inner else "[]"
    return _quote(value) if isinstance(value, str) else _js_scalar(value)


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _js_scalar(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def type_name(value: Any) -> str:
    """The type of a JSON value as the platform's errors name it."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "Array" if isinstance(value, list) else "Object"


def cast_failure(wanted: str, value: Any, path: str, tail: str = "") -> str:
    """A cast error in the platform's words."""
    shown = value if isinstance(value, str) else inspect_value(value)
    return f'Cast to {wanted} failed for value "{shown}" (type {type_name(value)}) at path "{path}"{tail}'


def _to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return _js_scalar(value)
    raise _CastError


def _to_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            number = float(value)
        except ValueError:
            raise _CastError from None
        if math.isfinite(number):
            return int(number) if number.is_integer() else number
    raise _CastError


def _to_boolean(value: Any) -> bool:
    if isinstance(value, int | float | str):
        if value in (True, "true", "yes", "1"):
            return True
        if value in (False, "false", "no", "0"):
            return False
    raise _CastError


def _to_date(value: Any) -> str:
    try:
        if isinstance(value, str):
            return timestamp(datetime.fromisoformat(value).timestamp())
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timestamp(value / 1000)
    except (ValueError, OverflowError, OSError):
        pass
    raise _CastError


_CASTS: dict[str, Callable[[Any], Any]] = {
    "string": _to_string,
    "Number": _to_number,
    "Boolean": _to_boolean,
    "date": _to_date,
    "Mixed": lambda value: value,
}

#: Sub-documents: field, cast, whether it is required. The order is that in which the platform reports what is missing.
_USAGE = (("totalTokens", "Number", True), ("completionTokens", "Number", True), ("promptTokens", "Number", True))
_THINKING = (("content", "string", False), ("visible", "Boolean", False), ("duration", "Number", False))
_TOOL_CALL = (
    ("function.name", "string", True),
    ("function.arguments", "string", True),
    ("id", "string", True),
    ("type", "string", True),
)
_TOOL_RESULT = (
    ("toolCallId", "string", True),
    ("toolName", "string", True),
    ("result", "Mixed", True),
    ("success", "Boolean", True),
    ("error", "string", False),
    ("executionTime", "Number", False),
)
_Fields = tuple[tuple[str, str, bool], ...]


class _Check:
    """One validation: collects what is kept and what is wrong."""

    def __init__(self, payload: Mapping[str, Any]) -> None:
        self._payload = payload
        self.kept: dict[str, Any] = {}
        self.errors: list[str] = []

    def scalar(self, name: str, cast: str, *, required: bool = False, enum: tuple[str, ...] = ()) -> None:
        value = self._cast(self._payload.get(name, _ABSENT), cast, path=name, at=name)
        if value is _ABSENT or value is None or (required and value == ""):
            if required and not self._complained_about(name):
                self.errors.append(f"{name}: Path `{name}` is required.")
        elif enum and value not in enum:
            self.errors.append(f"{name}: `{value}` is not a valid enum value for path `{name}`.")
        else:
            self.kept[name] = value

    def document(self, name: str, fields: _Fields, *, with_id: bool) -> None:
        value = self._payload.get(name)
        if value is not None:
            self.kept[name] = self._sub_document(value, fields, at=name, with_id=with_id)

    def documents(self, name: str, fields: _Fields) -> None:
        value = self._payload.get(name)
        if value is None:
            return
        rows = value if isinstance(value, list) else [value]
        self.kept[name] = [
            self._sub_document(row, fields, at=f"{name}.{index}", with_id=True) for index, row in enumerate(rows)
        ]

    def _sub_document(self, value: Any, fields: _Fields, *, at: str, with_id: bool) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self.errors.append(f"{at}: " + cast_failure("Object", value, at, ' because of "ObjectExpectedError"'))
            return {}
        document: dict[str, Any] = {}
        for path, cast, required in fields:
            found = _at(value, path)
            item = self._cast(found, cast, path=path, at=f"{at}.{path}")
            if item is not _ABSENT and item is not None:
                _put(document, path, item)
            elif required and not self._complained_about(f"{at}.{path}"):
                leaf = path.rpartition(".")[2] if "." not in path else path
                self.errors.append(f"{at}.{path}: Path `{leaf}` is required.")
        if with_id:
            document["_id"] = new_object_id()
        return document

    def _cast(self, value: Any, cast: str, *, path: str, at: str) -> Any:
        if value is _ABSENT or value is None:
            return value
        try:
            return _CASTS[cast](value)
        except _CastError:
            tail = ' because of "CastError"' if cast == "Boolean" else ""
            self.errors.append(f"{at}: " + cast_failure(cast, value, path, tail))
            return _ABSENT

    def _complained_about(self, at: str) -> bool:
        return any(error.startswith(f"{at}: ") for error in self.errors)


def _at(value: Mapping[str, Any], path: str) -> Any:
    head, _, rest = path.partition(".")
    found = value.get(head, _ABSENT)
    if not rest:
        return found
    return _at(found, rest) if isinstance(found, Mapping) else _ABSENT


def _put(document: dict[str, Any], path: str, item: Any) -> None:
    head, _, rest = path.partition(".")
    if rest:
        _put(document.setdefault(head, {}), rest, item)
    else:
        document[head] = item


def check_attachments(payload: Mapping[str, Any]) -> list[str]:
    """v1: ``attachments``, which must be http(s) URLs or ``document:<id>``.

    Raises:
        RefusedError: One is not.
    """
    attachments = payload.get("attachments")
    if attachments is None:
        return []
    if not isinstance(attachments, list) or not all(
        isinstance(item, str) and _ATTACHMENT.fullmatch(item) for item in attachments
    ):
        raise RefusedError("Invalid attachments")
    return list(attachments)


def check_conversation_id(conversation_id: Any) -> None:
    """Both profiles: the id must be 24 hex digits.

    Raises:
        RefusedError: It is not, in the wording of the recordings.
    """
    if not is_object_id(conversation_id):
        raise RefusedError(cast_failure("ObjectId", conversation_id, "_id", ' for model "Conversation"'))


def check_v1(payload: Mapping[str, Any]) -> dict[str, Any]:
    """v1: the fields of ``payload`` that are kept, cast and completed with sub-document ids.

    Raises:
        RefusedError: ``Message validation failed: …`` with everything that is wrong.
    """
    check = _Check(payload)
    check.scalar("conversationId", "string")
    check.scalar("participantId", "string")
    check.scalar("name", "string")
    check.scalar("parentId", "string")
    check.scalar("role", "string", required=True, enum=ROLES)
    check.scalar("content", "string", required=True)
    check.scalar("type", "string", enum=TYPES)
    check.documents("toolCalls", _TOOL_CALL)
    check.documents("toolResults", _TOOL_RESULT)
    check.document("usage", _USAGE, with_id=True)
    check.scalar("latency", "Number")
    check.document("thinking", _THINKING, with_id=False)
    check.scalar("error", "string")
    check.scalar("status", "string", enum=STATUSES)
    check.scalar("createdAt", "date")
    message_id = payload.get("_id")
    if message_id is not None and not is_object_id(message_id):
        tail = ' because of "BSONError"'
        check.errors.append("_id: " + cast_failure("ObjectId", message_id, "_id", tail))
    if check.errors:
        raise RefusedError("Message validation failed: " + ", ".join(check.errors))
    check.kept.setdefault("type", "text")
    return check.kept


def check_v2(payload: Mapping[str, Any]) -> None:
    """v2: ``content`` must be there and not empty; hardly anything else is looked at.

    Raises:
        RefusedError: It is not.
    """
    errors = []
    if isinstance(payload.get("conversationId"), list | dict):
        errors.append("conversationId: " + cast_failure("string", payload["conversationId"], "conversationId"))
    content = payload.get("content")
    if content is None or content == "":
        errors.append("content: Path `content` is required.")
    elif isinstance(content, list | dict):
        errors.append("content: " + cast_failure("string", content, "content"))
    if errors:
        raise RefusedError("Action validation failed: " + ", ".join(errors))


def storing_failure(conversation_id: Any, content: Any) -> str | None:
    """What goes wrong once a message is stored, when its conversation is told of it; None for nothing.

    The message is then in the history and shown to nobody (docs/protocol.md#7-findings, 9).
    """
    if not isinstance(content, str):
        return "content.substring is not a function"
    if not is_object_id(conversation_id):
        return cast_failure("ObjectId", conversation_id, "_id", ' for model "Conversation"')
    return None
