"""The table ``agents``: rows that anybody may have written, as records; and records that are checked before storing.

The table is public, and the same in every database: people write SQL against it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.protocol.text import is_object_id

MAX_ID_CHARS: Final = 128
#: The longest settings and labels: 1 MiB of JSON. Whoever reads rows may leave longer text where it is.
MAX_TEXT_BYTES: Final = 1 << 20
#: The longest name, handler and secret that are stored, far longer than any that is meant; raw SQL may write longer.
MAX_FIELD_CHARS: Final = 10_000
#: Deeper settings and labels are somebody's mistake, and no reader has to follow them.
MAX_DEPTH: Final = 64
#: What a row's owner may change; the id and the times are not among it.
CHANGEABLE: Final = frozenset({"name", "handler", "secret", "settings", "labels", "paused"})
#: Printable characters that no id has, the one printable space among them.
_UNFIT: Final = frozenset(" /?#%\\")
_REFERENCE = re.compile(r"(?:env:\S|file:/|fernet:\S)")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)(?:Z|\+00)?\Z")


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for text that is too long to be read; ``size`` is in characters or bytes, as the database counts."""

    size: int


def record_from_row(row: Mapping[str, Any]) -> AgentRecord:
    """A row as a record, whatever raw SQL has put into it: what cannot be used is left out and named in ``problem``."""
    problems: list[str] = []
    return AgentRecord(
        id=_read_id(row["id"], problems),
        handler=_read_text(row["handler"], "handler", problems, required=True),
        secret=_read_secret(row["secret"], problems),
        name=_read_text(row["name"], "name", problems),
        settings=_read_object(row["settings"], "settings", problems),
        labels=_read_labels(row["labels"], problems),
        paused=_read_flag(row["paused"], problems),
        created_at=_read_time(row["created_at"]),
        updated_at=_read_time(row["updated_at"]),
        problem="; ".join(problems) or None,
    )


def _too_long(value: object, column: str, problems: list[str]) -> bool:
    """Whether text is longer than any may be; nothing reads it then."""
    size = value.size if isinstance(value, Unread) else len(value) if isinstance(value, str | bytes) else 0
    if size <= MAX_TEXT_BYTES and isinstance(value, str) and not value.isascii():
        size = len(value.encode("utf-8", "replace"))
    if size > MAX_TEXT_BYTES:
        problems.append(f"{column} is too long to be read ({size:,}; at most {MAX_TEXT_BYTES:,} bytes)")
        return True
    return False


def _read_text(value: object, column: str, problems: list[str], *, required: bool = False) -> str:
    if _too_long(value, column, problems):
        return ""
    if isinstance(value, str):
        if required and not value.strip():
            problems.append(f"{column} is empty")
        return value
    if value is None:
        if required:
            problems.append(f"{column} is empty")
        return ""
    problems.append(f"{column} is not text")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_id(value: object, problems: list[str]) -> str:
    if isinstance(value, bytes):
        # SQLite tells a blob from the text of the same bytes: as that text it would stand in another agent's place.
        problems.append("id is not text")
        return repr(value[:MAX_ID_CHARS])
    agent_id = _read_text(value, "id", problems)
    try:
        return check_id(agent_id)
    except RegistryError as error:
        problems.append(f"id: {error}")
        return agent_id


def _read_secret(value: object, problems: list[str]) -> str:
    secret = _read_text(value, "secret", problems, required=True)
    if secret and not _REFERENCE.match(secret):
        # It may be the secret itself: it goes no further than this.
        problems.append("secret is not a reference; it must be env:NAME, file:/path or fernet:…")
        return ""
    return secret


def _read_object(value: object, column: str, problems: list[str]) -> dict[str, Any]:
    if value is None or value in ("", "{}") or _too_long(value, column, problems):
        return {}
    try:
        decoded = msgspec.json.decode(value) if isinstance(value, str | bytes) else value
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        problems.append(f"{column} is not JSON ({error})")
        return {}
    if not isinstance(decoded, dict):
        problems.append(f"{column} is not a JSON object")
        return {}
    if _is_too_deep(decoded):
        problems.append(f"{column} is nested more than {MAX_DEPTH} deep")
        return {}
    return decoded


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return False
        level = [below for one in inner for below in (one.values() if isinstance(one, dict) else one)]
    return any(isinstance(one, dict | list) for one in level)


def _read_labels(value: object, problems: list[str]) -> dict[str, str]:
    labels = _read_object(value, "labels", problems)
    wrong = sorted(name for name, label in labels.items() if not isinstance(label, str))
    if wrong:
        problems.append(f"labels: {', '.join(wrong)} is not text")
    return {name: label for name, label in labels.items() if isinstance(label, str)}


def _read_flag(value: object, problems: list[str]) -> bool:
    if value in (0, 1):
        return bool(value)
    problems.append("paused is neither 0 nor 1")
    return False


def _read_time(value: object) -> str:
    """ISO 8601 where SQL's CURRENT_TIMESTAMP wrote it; whatever else it is, as it is."""
    text = "" if value is None else str(value)
    found = _TIME.match(text)
    return f"{found[1]}T{found[2]}Z" if found else text


def check_id(agent_id: object) -> str:
    """An agent's id as it may be stored: 1 to 128 printable characters without spaces.

    Raises:
        RegistryError: it is anything else.
    """
    if not isinstance(agent_id, str) or not agent_id:
        raise RegistryError("An agent's id is empty; take the id that the platform shows for it")
    if len(agent_id) > MAX_ID_CHARS:
        raise RegistryError(f"An agent's id has {len(agent_id)} characters; at most {MAX_ID_CHARS} are allowed")
    if not agent_id.isprintable() or not _UNFIT.isdisjoint(agent_id):
        # It is part of URLs, the platform's and ours.
        raise RegistryError(f"The agent id {agent_id!r} holds a space, a slash or another character that no id has")
    if is_object_id(agent_id) and agent_id != agent_id.lower():
        # The platform takes both and writes the one: registered twice, an agent would answer twice.
        raise RegistryError(f"The agent id {agent_id} has capital letters; write it as {agent_id.lower()}")
    return agent_id


def _store_text(agent_id: str, column: str, value: object) -> str:
    if not isinstance(value, str):
        raise RegistryError(f"Agent {agent_id}: {column} must be text")
    if len(value) > MAX_FIELD_CHARS:
        raise RegistryError(
            f"Agent {agent_id}: {column} has {len(value):,} characters; at most {MAX_FIELD_CHARS:,} are allowed"
        )
    _check_utf8(agent_id, column, value)
    return value


def _check_utf8(agent_id: str, column: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RegistryError(f"Agent {agent_id}: {column} holds characters that UTF-8 cannot express") from None


def _store_handler(agent_id: str, value: object) -> str:
    handler = _store_text(agent_id, "handler", value)
    if not handler.strip():
        raise RegistryError(f"Agent {agent_id}: handler is empty; name one, such as echo")
    return handler


def _store_secret(agent_id: str, value: object) -> str:
    if not isinstance(value, str) or not _REFERENCE.match(value):
        # Never repeat it: it may be the secret itself, and this text is shown and logged.
        raise RegistryError(
            f"Agent {agent_id}: secret must be a reference (env:NAME, file:/path) or sealed (fernet:…), "
            "never the secret itself"
        )
    return _store_text(agent_id, "secret", value)


def _store_settings(agent_id: str, value: object) -> str:
    return _store_object(agent_id, "settings", value)


def _store_labels(agent_id: str, value: object) -> str:
    if isinstance(value, Mapping) and not all(isinstance(label, str) for label in value.values()):
        raise RegistryError(f"Agent {agent_id}: every label must be text")
    return _store_object(agent_id, "labels", value)


def _store_object(agent_id: str, column: str, value: object) -> str:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise RegistryError(f"Agent {agent_id}: {column} must be an object with text keys")
    if _is_too_deep(value):
        raise RegistryError(f"Agent {agent_id}: {column} is nested more than {MAX_DEPTH} deep")
    try:
        encoded = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RegistryError(f"Agent {agent_id}: {column} cannot be written as JSON: {error}") from None
    _check_utf8(agent_id, column, encoded)
    if (size := len(encoded.encode())) > MAX_TEXT_BYTES:
        raise RegistryError(
            f"Agent {agent_id}: {column} has {size:,} bytes of JSON; at most {MAX_TEXT_BYTES:,} are allowed"
        )
    return encoded


def _store_flag(agent_id: str, value: object) -> int:
    if not isinstance(value, bool):
        raise RegistryError(f"Agent {agent_id}: paused must be true or false")
    return int(value)


def _store_name(agent_id: str, value: object) -> str:
    return _store_text(agent_id, "name", value)


_STORE: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "name": _store_name,
    "handler": _store_handler,
    "secret": _store_secret,
    "settings": _store_settings,
    "labels": _store_labels,
    "paused": _store_flag,
}


def checked_values(agent_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Column values for some fields of a record.

    Raises:
        RegistryError: a field is unknown, or its value must not be stored.
    """
    check_id(agent_id)
    unknown = sorted(set(changes) - CHANGEABLE)
    if unknown:
        raise RegistryError(f"Agent {agent_id}: {', '.join(unknown)} cannot be changed; it is none of its fields")
    return {column: _STORE[column](agent_id, value) for column, value in changes.items()}


def record_values(record: AgentRecord) -> dict[str, Any]:
    """Column values for a whole record; its times are the database's own."""
    return checked_values(record.id, {column: getattr(record, column) for column in sorted(CHANGEABLE)})
