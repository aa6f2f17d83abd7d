"""Ids and times in the platform's spelling."""

import itertools
import re
import secrets
import time
from datetime import UTC, datetime

_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_PROCESS_PART = secrets.token_hex(5)
_counter = itertools.count(secrets.randbelow(1 << 20))


def new_object_id() -> str:
    """A fresh 24-digit id: seconds, a part of this process, a counter, so that ids sort by age."""
    return f"{int(time.time()):08x}{_PROCESS_PART}{next(_counter) & 0xFFFFFF:06x}"


def is_object_id(value: object) -> bool:
    """Whether ``value`` is 24 hex digits; anything else the platform cannot even look up."""
    return isinstance(value, str) and _OBJECT_ID.fullmatch(value) is not None


def timestamp(seconds: float | None = None) -> str:
    """``seconds`` since the epoch (default: now) as the platform writes it, ``2026-11-23T01:58:28.508Z``."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
