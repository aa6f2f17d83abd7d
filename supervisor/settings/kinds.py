"""Kinds of values that settings have: what people may write for each, and what is read of it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final, Literal, Self, get_args
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr
from pydantic_settings import NoDecode

from supervisor.settings.otlp import request_headers, resource_attributes

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)\Z")
_BLANK = re.compile(r"[\x00-\x20\x7f\\]")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|kB|MB|GB)?\Z", re.IGNORECASE)
_UNIT_BYTES = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(value: object) -> object:
    """Read ``90``, ``90s``, ``15m``, ``24h``, ``7d`` as seconds; other numbers are left to the field's own check.

    Raises:
        ValueError: it is a text and none of these.
    """
    if isinstance(value, str):
        if match := _DURATION.match(value.strip()):
            return float(match[1]) * _UNIT_SECONDS[match[2]]
        _require_number(value, "must be a duration such as 90s, 5m or 24h; a bare number is seconds")
    return value


def size(value: object) -> object:
    """Read ``1000``, ``512KiB``, ``256MiB``, ``1GB`` as bytes; other numbers are left to the field's own check.

    Raises:
        ValueError: it is a text and none of these.
    """
    if isinstance(value, str):
        if match := _SIZE.match(value.strip()):
            return int(match[1]) * _UNIT_BYTES[(match[2] or "").lower()]
        _require_number(value, "must be a size such as 512KiB, 256MiB or 1GB; a bare number is bytes")
    return value


def _require_number(text: str, wanted: str) -> None:
    try:
        float(text)
    except ValueError:
        # Its own words are left out: they repeat the value.
        raise ValueError(wanted) from None


def listed(value: object) -> object:
    """Read a comma-separated list, or one in JSON.

    Raises:
        ValueError: it begins as a list in JSON and is none.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            # The parser's own words are left out: they may repeat a secret.
            raise ValueError("must be a comma-separated list or a JSON list") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def json_object(value: object) -> object:
    """Read an object in JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON object") from None


def _url(schemes: tuple[str, ...], *, credentials: bool = False) -> AfterValidator:
    def check(value: str) -> str:
        wanted = f"must be a URL that starts with {' or '.join(s + '://' for s in schemes)}"
        try:
            parts = urlsplit(value)
            # Reading the port checks it. Blanks and control characters would be dropped here and read elsewhere.
            good = parts.scheme in schemes and parts.hostname and parts.port != 0 and not _BLANK.search(value)
        except ValueError:
            # The error's own words are left out: they repeat the value, which may hold a password.
            raise ValueError(wanted) from None
        if not good:
            raise ValueError(wanted)
        if "@" in parts.netloc and not credentials:
            raise ValueError("must not hold a user name or password")
        return value.rstrip("/")

    return AfterValidator(check)


def _namespace(value: str) -> str:
    if value != "auto" and not (value.startswith("/") and not _BLANK.search(value)):
        raise ValueError("must be auto, or begin with / and hold no space")
    return value


def _currency(value: str) -> str:
    if not (len(value) == 3 and value.isascii() and value.isalpha()):
        raise ValueError("must be the three letters of a currency, such as USD or EUR")
    return value.upper()


def readable_headers(value: SecretStr | None) -> SecretStr | None:
    """Refuse headers that cannot be read."""
    if value is not None:
        request_headers(value.get_secret_value())
    return value


def readable_attributes(value: str) -> str:
    """Refuse attributes of a resource that cannot be read."""
    resource_attributes(value)
    return value


class ProxyUrl(str):
    """An HTTP proxy's URL. It may hold a user and a password, which ``repr`` and dumps of the settings mask."""

    __slots__ = ()

    @classmethod
    def read(cls, value: str) -> Self:
        """A URL that was checked; user and password are escaped where that was forgotten."""
        parts = urlsplit(value)
        if "@" not in parts.netloc:
            return cls(value)
        own, _, place = parts.netloc.rpartition("@")
        user, _, password = (quote(unquote(part), safe="") for part in own.partition(":"))
        if not user:
            raise ValueError("a password needs a user name: http://user:password@host:port")
        return cls(parts._replace(netloc=f"{user}:{password}@{place}").geturl())

    @property
    def masked(self) -> str:
        """The URL as it may be shown."""
        scheme, _, rest = self.partition("://")
        return f"{scheme}://**********@{rest.rpartition('@')[2]}" if "@" in rest else str(self)

    def __repr__(self) -> str:
        return repr(self.masked)


BundledHandler = Literal["assistant", "command", "echo", "tour", "webhook"]
#: The handlers that come with the supervisor.
BUNDLED_HANDLERS: Final[tuple[BundledHandler, ...]] = get_args(BundledHandler)
Seconds = Annotated[float, BeforeValidator(duration), Field(gt=0, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, BeforeValidator(duration), Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, BeforeValidator(size), Field(ge=1)]
TextList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)]
HttpUrl = Annotated[str, _url(("http", "https"))]
HttpProxy = Annotated[
    str,
    _url(("http", "https"), credentials=True),
    AfterValidator(ProxyUrl.read),
    PlainSerializer(lambda url: url.masked, return_type=str),
]
SocketUrl = Annotated[str, _url(("ws", "wss", "http", "https"))]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PartKinds = Annotated[tuple[Literal["thinking", "tool_call", "tool_result"], ...], BeforeValidator(listed)]
RoleList = Annotated[tuple[str, ...], BeforeValidator(listed)]
TokenBudget = Annotated[int, Field(ge=1)]
CostBudget = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Currency = Annotated[str, AfterValidator(_currency)]
EnginePath = Annotated[str, Field(pattern=r"^/\S+$")]
NamespaceName = Annotated[str, AfterValidator(_namespace)]
PlatformCommands = Annotated[
    tuple[Literal["stop", "reload", "inspect", "sleep", "wake"], ...],
    NoDecode,
    BeforeValidator(lambda words: () if words == ["none"] else words),
    BeforeValidator(listed),
]
BundledHandlers = Annotated[
    tuple[BundledHandler, ...],
    NoDecode,
    BeforeValidator(lambda words: BUNDLED_HANDLERS if words == ["all"] else () if words == ["none"] else words),
    BeforeValidator(listed),
]
TokenVia = Literal["auth", "header", "query"]
Delivery = Literal["at_least_once", "at_most_once"]
WhenBusy = Literal["queue", "collect", "interrupt"]


class Price(BaseModel):
    """What a million tokens of a model cost; ``cached``: input from a cache, the price of input unless given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    input: Amount
    output: Amount
    cached: Amount | None = None
