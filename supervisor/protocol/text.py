"""Text from outside: what is an id, what is an attachment, and how a person's words are made safe to keep."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: v1 keeps content of any length below the frame bound; a person's message of more than this is cut, and says so.
MAX_CONTENT_CHARS: Final = 200_000
MAX_ID_CHARS: Final = 128
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}\Z")
_ATTACHMENT = re.compile(r"(?:https?://[^\s/]+\S*|document:\S+)\Z")
_ESCAPES = re.compile(rb"\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)")
_DIRECTION_CONTROLS = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def is_object_id(text: str) -> bool:
    """Whether ``text`` is an id as the platform makes them: 24 hex digits."""
    return _OBJECT_ID.match(text) is not None


def is_id(value: object) -> bool:
    """Whether ``value`` may be an id of the platform's: printable text of bounded length."""
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS and value.isprintable()


def one_line(value: object, limit: int = MAX_ID_CHARS) -> str | None:
    """A short text from outside, cleaned and on one line; None for anything else, or where nothing is left of it."""
    if not isinstance(value, str):
        return None
    return " ".join(clean_text(value, limit)[0].split()) or None


def is_attachment(text: str) -> bool:
    """Whether ``text`` is an attachment that v1 takes: an http(s) URL or ``document:<id>``."""
    return _ATTACHMENT.match(text) is not None


def clean_text(text: str, limit: int = MAX_CONTENT_CHARS) -> tuple[str, bool]:
    """Make text from outside safe to show, log and hand on.

    Control characters but for newline and tab, lone surrogates and direction overrides go; more than ``limit``
    characters are cut.

    Returns:
        The text, and whether it was cut.
    """
    cut = len(text) > limit
    if cut:
        text = text[:limit]
    if text.isascii() and text.isprintable():
        return text, cut
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_DIRECTION_CONTROLS)
    kept = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return kept, cut


def replace_lone_surrogates(raw: bytes) -> bytes:
    """JSON in which half a surrogate pair became U+FFFD.

    JavaScript lets it through, as in a text cut in the middle of an emoji; JSON parsers in Python do not.
    """
    return _ESCAPES.sub(_replace_half_pair, raw)


def _replace_half_pair(escape: re.Match[bytes]) -> bytes:
    """Keep every escape but half a pair."""
    body = escape[1]
    return b"\\ufffd" if len(body) == 5 and body[1] in b"dD" else escape[0]
