"""What OTLP_ENDPOINT, OTLP_HEADERS and OTLP_RESOURCE mean: where traces are sent, and with what. No I/O."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_PATH = "/v1/traces"
#: A name as HTTP has it, and a value without what could begin another header.
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*([\x20-\x7e]+)\Z")


def traces_url(endpoint: str) -> str:
    """Where traces go: the endpoint, with the path of traces unless it ends with that already."""
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(_PATH) else path + _PATH))


def request_headers(text: str) -> dict[str, str]:
    """Headers that are written ``name=value, name=value``.

    Raises:
        ValueError: one cannot be read; it is not repeated, for it may be a key.
    """
    found = {}
    for line in filter(None, map(str.strip, text.split(","))):
        header = _HEADER.match(line)
        if header is None:
            raise ValueError("must be name=value, comma-separated")
        found[header[1]] = header[2]
    return found


def resource_attributes(text: str) -> dict[str, str]:
    """Attributes that are written ``name=value, name=value``.

    Raises:
        ValueError: one cannot be read.
    """
    found = {}
    for one in filter(None, map(str.strip, text.split(","))):
        name, separator, value = map(str.strip, one.partition("="))
        if not (name and separator and value):
            raise ValueError("must be name=value, comma-separated")
        found[name] = value
    return found
