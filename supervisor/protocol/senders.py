"""Who wrote a message, and what it refers to (docs/protocol.md#8-third-generation, 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from supervisor.protocol.text import clean_text, is_id, one_line

_MAX_REFERENCES: Final = 100
_MAX_REFERENCE_CHARS: Final = 20_000
_REFERENCE_FIELDS: Final = {
    "app": "app",
    "page": "page",
    "section": "section",
    "resource_type": "resourceType",
    "resource_id": "resourceId",
    "label": "label",
}


class Sender(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who wrote a message, as far as the platform tells; None where it does not.

    Args:
        id: the platform's id of the person or agent; of a person behind a bridge the id there.
        name: what the person is called. It proves nothing: people choose their names.
        platform: where the person writes: ``portal``, ``discord``, ``telegram``, …
        channel, connection: which channel there, and over which of the platform's connections it is reached.
    """

    id: str | None = None
    name: str | None = None
    platform: str | None = None
    channel: str | None = None
    connection: str | None = None


class Reference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Something on the platform that a message refers to, as the person saw it there.

    Args:
        resource_type, resource_id: what it is, in the platform's words.
        label: what the person saw in its place.
        content: what it holds, where the platform sends that along.
    """

    label: str = ""
    resource_type: str = ""
    resource_id: str | None = None
    app: str | None = None
    page: str | None = None
    section: str | None = None
    content: str | None = None


_NAMES: Final = ("fullname", "username", "externalUsername")
#: What says more of a person than the id.
_TOLD: Final = frozenset({*_NAMES, "externalUserId", "platform", "channelId", "connectionId"})


def read_sender(payload: Mapping[str, Any], author_id: str | None) -> Sender:
    """Who wrote a message.

    Args:
        payload: the ``message:new``.
        author_id: the platform's own id of the author, where it was found.
    """
    if payload.keys().isdisjoint(_TOLD):
        return Sender(id=author_id)
    external = payload.get("externalUserId")
    names = (one_line(payload.get(field)) for field in _NAMES)
    return Sender(
        id=author_id or (external if is_id(external) else None),
        name=next((name for name in names if name), None),
        platform=one_line(payload.get("platform")),
        channel=_id(payload.get("channelId")),
        connection=_id(payload.get("connectionId")),
    )


def read_references(value: object) -> tuple[tuple[Reference, ...], bool]:
    """What a message refers to, and whether anything of it was left out or cut."""
    if not isinstance(value, list):
        return (), True
    references: list[Reference] = []
    cut = len(value) > _MAX_REFERENCES
    for raw in value[:_MAX_REFERENCES]:
        if not isinstance(raw, Mapping):
            cut = True
            continue
        fields = {
            name: text for name, wire in _REFERENCE_FIELDS.items() if (text := one_line(raw.get(wire))) is not None
        }
        content = raw.get("content")
        if isinstance(content, str):
            fields["content"], was_cut = clean_text(content, _MAX_REFERENCE_CHARS)
            cut = cut or was_cut
        references.append(Reference(**fields))
    return tuple(references), cut


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and is_id(value) else None
