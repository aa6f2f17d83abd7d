"""Files that come with a message: a URL for each, as ever, and what the platform says of it beside.

v1 and v2 send http(s) URLs and ``document:<id>``. v3 sends objects, from its widget the bytes themselves
(docs/protocol.md#8-third-generation, 4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from supervisor.protocol.text import is_attachment, one_line

#: Bytes that come without a URL become a ``data:`` URL of so many characters at most; a frame holds no more.
MAX_DATA_URL_CHARS: Final = 1_000_000
_MAX_FACT_CHARS: Final = 255
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+\Z", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")
_DATA_URL = re.compile(
    r"data:(?P<media>[\w.+-]+/[\w.+-]+)?(?:;[\w.=-]+)*;base64,(?P<data>[A-Za-z0-9+/]+={0,2})\Z", re.ASCII
)
_UNKNOWN_MEDIA: Final = "application/octet-stream"


class AttachmentDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the platform says of a file; None where it does not. ``size`` in bytes."""

    name: str | None = None
    media_type: str | None = None
    size: int | None = None


class Attachment(str):
    """The URL of a file that came with a message, and what is known of the file.

    Whoever has the URL may have the file, or more: Telegram's hold the token of the bot.

    Args:
        url: http(s), ``document:<id>``, or ``data:`` where the platform sent the bytes and no URL.
        name: what the sender calls it. It is a person's word: never a path to write to.
        media_type: as ``image/png``.
        size: in bytes.
    """

    __slots__ = ("media_type", "name", "size")

    name: str | None
    media_type: str | None
    size: int | None

    def __new__(
        cls, url: str, *, name: str | None = None, media_type: str | None = None, size: int | None = None
    ) -> Attachment:
        """Make one; all but the URL may be unknown."""
        attachment = super().__new__(cls, url)
        attachment.name, attachment.media_type, attachment.size = name, media_type, size
        return attachment

    def __repr__(self) -> str:
        return f"Attachment({shown_url(self)!r})"


def shown_url(url: str) -> str:
    """A URL for people: without the data of a ``data:`` URL, and of others the host alone, as the rest may be a key."""
    if url.startswith("data:"):
        head, _, data = url.partition(",")
        return f"{head},… ({len(data) * 3 // 4} bytes)"
    if not url.startswith(("http://", "https://")):
        return str(url)
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return f"{url.partition(':')[0]}://{host or ''}/…"


def shown_file(file: Attachment) -> str:
    """A file for people: its URL as :func:`shown_url` has it, and what is known of it."""
    known = ", ".join(fact for fact in (file.name, file.media_type) if fact)
    return f"{shown_url(file)} ({known})" if known else shown_url(file)


def read_attachments(value: object, limit: int) -> tuple[list[str], list[AttachmentDetails], bool]:
    """The attachments of a message, however the platform writes them.

    Args:
        value: the field as it came.
        limit: how many are read.

    Returns:
        The URLs, what is known of each, and whether anything was left out.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return [], [], True
    urls: list[str] = []
    details: list[AttachmentDetails] = []
    room = MAX_DATA_URL_CHARS
    for raw in value[:limit]:
        url, detail = _read(raw)
        if url is None or (url.startswith("data:") and len(url) > room):
            continue
        room -= len(url) if url.startswith("data:") else 0
        urls.append(url)
        details.append(detail)
    return urls, details, len(urls) != len(value)


def _read(raw: object) -> tuple[str | None, AttachmentDetails]:
    """One attachment: its URL, None where it has none that may be used."""
    if isinstance(raw, str):
        return (raw if _is_usable(raw) else None), AttachmentDetails()
    if not isinstance(raw, Mapping):
        return None, AttachmentDetails()
    # The widget's ``type`` is the media type, the others' a kind: image, audio, document, video, file.
    media_type = _media_type(raw.get("mimeType")) or _media_type(raw.get("type"))
    url = raw.get("url")
    if not (isinstance(url, str) and _is_usable(url)):
        url, media_type = _data_url(raw.get("data", url), media_type)
    size = raw.get("size")
    return url, AttachmentDetails(
        name=_name(raw.get("filename")) or _name(raw.get("name")),
        media_type=media_type,
        size=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**53 else None,
    )


def _name(value: object) -> str | None:
    """A file's name; None for anything else, and for a URL, which may be a key and is no name."""
    name = one_line(value, _MAX_FACT_CHARS)
    return None if name is not None and "://" in name else name


def _is_usable(url: str) -> bool:
    return is_attachment(url) and url.isprintable()


def _data_url(data: object, media_type: str | None) -> tuple[str | None, str | None]:
    """A ``data:`` URL of bytes in base64, and their media type; None where it is no base64 or too much."""
    if not isinstance(data, str) or not 0 < len(data) <= MAX_DATA_URL_CHARS:
        return None, media_type
    if (whole := _DATA_URL.match(data)) is not None:
        media_type, data = media_type or whole["media"], whole["data"]
    if _BASE64.match(data) is None:
        return None, media_type
    return f"data:{media_type or _UNKNOWN_MEDIA};base64,{data}", media_type


def _media_type(value: object) -> str | None:
    """A media type without its parameters; None for anything else."""
    if not isinstance(value, str):
        return None
    media_type = value.partition(";")[0].strip().lower()
    return media_type if len(media_type) <= _MAX_FACT_CHARS and _MEDIA_TYPE.match(media_type) else None
