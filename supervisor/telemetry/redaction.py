"""What may be written and shown: nothing secret, no payloads, nothing endless."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, Final

REDACTED: Final = "[redacted]"
#: Enough for a reason, too little for a conversation.
MAX_TEXT_CHARS: Final = 500
MAX_TRACEBACK_CHARS: Final = 10_000
_MAX_DEPTH, _MAX_ITEMS = 4, 50
#: The keys under which a traceback stands, which may be long.
TRACEBACKS = frozenset({"exception", "traceback", "stack"})

_SECRET_KEY = re.compile(
    r"(?:^|[_-]|(?<=[a-z])(?=[A-Z]))(?i:secret|token|password|passwd|authorization|api_?key|cookie|jwt)$"
)
_SENSITIVE = r"(?:secret|token|password|passwd|api_?key)"
_SIGNING = "sig|signature|credential|hmac|hm|key|key-?id|auth|jwt|session|ticket|pwd|policy|code"
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
    # https://user:password@host, or a token in the place of both, unless a setting has masked it already.
    (re.compile(r"(?<=://)(?!\*+@)(?:[^\s/@:\"<>]*:[^\s/@]*|[^\s/@\"<>]+)(?=@)"), REDACTED),
    # What makes a URL good for whoever has it: ?sig=…, &X-Amz-Signature=…, &key=…
    (re.compile(rf"(?i)([?&][\w.-]{{0,60}}(?:{_SIGNING})=)[^\s&#\"'<>]+"), rf"\1{REDACTED}"),
    # A Telegram bot's token, in the path of its URLs and alone.
    (re.compile(r"(/bot)\d+(?::|%3[Aa])[^\s/\"'<>]+"), rf"\1{REDACTED}"),
    (re.compile(r"(?<![\w-])\d{6,12}:[\w-]{30,}"), REDACTED),
    (re.compile(r"\bsk-[\w-]{12,}"), REDACTED),
    # A file that came along with a message.
    (re.compile(r"(data:[\w.+/-]{0,127};base64,)[A-Za-z0-9+/=]{64,}"), r"\1…"),
)

#: What every text has that any of the patterns finds something in: most lines have none of it.
_SUSPECT: Final = re.compile(r"eyJ|gAAAA|[=\"']|(?i:bearer|basic)\s|://|/bot|\d{6}:|sk-|;base64,")


def redact(text: str) -> str:
    """Replace whatever looks like a token, a secret, a ciphertext or a key in ``text``."""
    if _SUSPECT.search(text) is None:
        return text
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
    if type(value) is str:
        return _safe_text(value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if depth < _MAX_DEPTH and not isinstance(value, str):
        if isinstance(value, Mapping):
            return _safe_mapping(value, depth)
        if isinstance(value, Sequence | AbstractSet):
            return [_safe(item, depth + 1) for _, item in zip(range(_MAX_ITEMS), value, strict=False)]
    if isinstance(value, str):
        value = _without_key(value)
    return _safe_text(f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value))


def _without_key(value: str) -> str:
    """A text of another type than plain text: where it is a file's URL, as it may be shown."""
    # Imported here: a command that only explains itself waits for no message's types.
    from supervisor.protocol.attachments import Attachment, shown_url  # noqa: PLC0415

    return shown_url(value) if isinstance(value, Attachment) else value


def _safe_mapping(mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    pairs = zip(range(_MAX_ITEMS), mapping.items(), strict=False)
    return {_safe_text(str(key)): _safe_item(str(key), value, depth + 1) for _, (key, value) in pairs}


@lru_cache(maxsize=512)
def _is_secret_key(key: str) -> bool:
    """Whether a value is a secret by what it is called; lines have few names for very many values."""
    return _SECRET_KEY.search(key) is not None


def _safe_item(key: str, value: object, depth: int) -> Any:
    if _is_secret_key(key) and value and not isinstance(value, bool | int | float):
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
    return REDACTED if value and _is_secret_key(key) and not is_reference else redact(value)


def redact_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The processor that every event passes last: nothing secret and no payload gets to the renderer."""
    safe: dict[str, Any] = {}
    for key, value in event.items():
        if key in TRACEBACKS and isinstance(value, str):
            safe[key] = _safe_text(value, MAX_TRACEBACK_CHARS)
        else:
            safe[key] = _safe_item(key, value, 0)
    return safe
