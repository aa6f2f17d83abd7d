"""The files that people attach, as a model can take them: images, PDFs and text, told by their first bytes."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic_ai.messages import BinaryContent

from supervisor.handler import Attachment, Context, Message

from .._charset import recoded
from .fetching import UNKNOWN_MEDIA, Fetched, TooLargeError, UnfetchedError, fetch, host_of
from .settings import AssistantSettings

#: Files of one message that are looked at, those it is answered together with included; the newest message's first.
MAX_FILES: Final = 8
#: Of one file: Anthropic takes 5 MiB of an image, counted once it is base64.
MAX_FILE_BYTES: Final = 5 * 1024 * 1024 * 3 // 4
#: Of all together: Google takes 20 MB in one request.
MAX_BYTES: Final = 12_000_000
MAX_TEXT_CHARS: Final = 20_000
#: How long all of them may take, and the greatest share of the message's time.
FETCH_SECONDS: Final = 15.0
FETCH_SHARE: Final = 0.25

_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_TEXTS: Final = frozenset({"application/json", "application/xml", "application/x-ndjson", "application/yaml"})

_NOT_HAD: Final = "it could not be fetched"
_TOO_LARGE: Final = "it is too large"
_TOO_MANY: Final = "it is one file too many"
_NO_SUCH_KIND: Final = "it is no image, PDF or text"


@dataclass(frozen=True, slots=True, repr=False)
class Seen:
    """A file as the model gets it.

    Args:
        content: its text, or its bytes; None where it cannot be shown.
        why: why not, for the model.
    """

    content: str | BinaryContent | None = None
    why: str = ""


async def seen(
    message: Message, ctx: Context, settings: AssistantSettings, left_seconds: float
) -> Mapping[Attachment, Seen]:
    """What the model is shown of the files of a message, and of those it is answered together with.

    Files that are only named, ``document:<id>``, are not among them.

    Args:
        left_seconds: how long there is for the message.
    """
    if not settings.attachments:
        return {}
    attached = (file for one in (message, *reversed(message.earlier)) for file in one.attachments)
    files = [file for file in dict.fromkeys(attached) if file.startswith(("https://", "http://", "data:"))]
    private = settings.allow_private and ctx.permits("private_webhooks")
    seconds = min(FETCH_SECONDS, left_seconds * FETCH_SHARE)
    read = await asyncio.gather(*(_seen(file, ctx, private, seconds) for file in files[:MAX_FILES]))
    found = dict.fromkeys(files, Seen(why=_TOO_MANY))
    room = MAX_BYTES
    for file, one in zip(files, read, strict=False):
        size = len(one.content.data) if isinstance(one.content, BinaryContent) else 0
        found[file] = one if size <= room else Seen(why=_TOO_LARGE)
        room -= size if size <= room else 0
    return found


async def _seen(file: Attachment, ctx: Context, private: bool, seconds: float) -> Seen:
    try:
        if file.startswith("data:"):
            fetched = _inline(file)
        else:
            fetched = await fetch(file, private=private, seconds=seconds, limit_bytes=MAX_FILE_BYTES)
    except UnfetchedError as error:
        ctx.log.info("attachment_unread", host=host_of(file), reason=str(error))
        return Seen(why=_TOO_LARGE if isinstance(error, TooLargeError) else _NOT_HAD)
    content = recognised(fetched, file.media_type)
    if content is None:
        return Seen(why=_NO_SUCH_KIND)
    return Seen(content)


def _inline(file: Attachment) -> Fetched:
    """The bytes in a ``data:`` URL; the supervisor lets none pass that is large."""
    head, _, data = file.partition(",")
    media_type, *parameters = head[len("data:") :].split(";")
    charset = next((value for name, _, value in (one.partition("=") for one in parameters) if name == "charset"), None)
    try:
        return Fetched(base64.b64decode(data, validate=True), media_type, charset)
    except binascii.Error:
        raise UnfetchedError("its data: URL is no base64") from None


def recognised(fetched: Fetched, told: str | None) -> str | BinaryContent | None:
    """A file as text or as bytes with their true media type; None where it is of no kind that models take.

    What it begins with counts before what anybody says of it.

    Args:
        told: the media type that the platform tells.
    """
    data = fetched.data
    media_type = next((kind for begin, kind in _SIGNATURES if data.startswith(begin)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        media_type = "image/webp"
    if media_type is not None:
        return BinaryContent(data, media_type=media_type)
    said = fetched.media_type if fetched.media_type != UNKNOWN_MEDIA else told
    # A page in place of a picture is somebody's login, or an error.
    return _text(fetched) if _is_text(said) and (told in (None, UNKNOWN_MEDIA) or _is_text(told)) else None


def _is_text(media_type: str | None) -> bool:
    return media_type is not None and (media_type.startswith("text/") or media_type in _TEXTS)


def _text(fetched: Fetched) -> str | None:
    try:
        text = recoded(fetched.data, fetched.charset).decode()
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    left_out = len(text) - MAX_TEXT_CHARS
    return text if left_out <= 0 else f"{text[:MAX_TEXT_CHARS]}…\n[{left_out} more characters are left out]"
