"""The deployment's settings (``SUPERVISOR_*``) and each agent's own (its row's ``settings``); DESIGN §6.

With :mod:`supervisor.secrets`, which resolves the references that rows hold, the only reader of the environment.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from dotenv.parser import parse_stream
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from supervisor.errors import ConfigurationError
from supervisor.otlp import request_headers

PREFIX = "SUPERVISOR_"
#: Why the root namespace is refused (PROTOCOL §2).
ROOT_IS_DEAF = "the root namespace / takes any client and delivers nothing"
RUN_SECRETS = Path("/run/secrets")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)\Z")
_BLANK = re.compile(r"[\x00-\x20\x7f\\]")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|kB|MB|GB)?\Z", re.IGNORECASE)
_UNIT_BYTES = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
# What others put into the environment under our prefix: Kubernetes' service links, and supervisord (DESIGN §6).
_FOREIGN = re.compile(r"SUPERVISOR_(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_\d+_.+)\Z")
_NEVER_EMPTY = ("API_URL", "WS_URL", "REGISTRY_URL")
_SUPERVISORD = frozenset({"ENABLED", "PROCESS_NAME", "GROUP_NAME", "SERVER_URL"})


def _duration(value: object) -> object:
    """Read ``90``, ``90s``, ``15m``, ``24h``, ``7d`` as seconds."""
    if isinstance(value, str) and (match := _DURATION.match(value.strip())):
        return float(match[1]) * _UNIT_SECONDS[match[2]]
    return value


def _size(value: object) -> object:
    """Read ``1000``, ``512KiB``, ``256MiB``, ``1GB`` as bytes."""
    if isinstance(value, str) and (match := _SIZE.match(value.strip())):
        return int(match[1]) * _UNIT_BYTES[(match[2] or "").lower()]
    return value


def _listed(value: object) -> object:
    """Read a comma-separated list, or one in JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            # Without the parser's own words: they may repeat a secret.
            raise ValueError("must be a comma-separated list or a JSON list") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def _object(value: object) -> object:
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
            # Without its own words: they repeat the value, which may hold a password.
            raise ValueError(wanted) from None
        if not good:
            raise ValueError(wanted)
        if "@" in parts.netloc and not credentials:
            raise ValueError("must not hold a user name or password")
        return value.rstrip("/")

    return AfterValidator(check)


def _namespace(value: str) -> str:
    if value == "/":
        raise ValueError(f"{ROOT_IS_DEAF}; set auto, or the platform's own")
    if value != "auto" and not (value.startswith("/") and not _BLANK.search(value)):
        raise ValueError("must be auto, or begin with / and hold no space")
    return value


def _readable_headers(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        request_headers(value.get_secret_value())
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


Seconds = Annotated[float, BeforeValidator(_duration), Field(gt=0, allow_inf_nan=False)]
Bytes = Annotated[int, BeforeValidator(_size), Field(ge=1)]
TextList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
HttpUrl = Annotated[str, _url(("http", "https"))]
HttpProxy = Annotated[
    str,
    _url(("http", "https"), credentials=True),
    AfterValidator(ProxyUrl.read),
    PlainSerializer(lambda url: url.masked, return_type=str),
]
SocketUrl = Annotated[str, _url(("ws", "wss", "http", "https"))]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RoleList = Annotated[tuple[str, ...], BeforeValidator(_listed)]
TokenBudget = Annotated[int, Field(ge=1)]
CostBudget = Annotated[float, Field(gt=0, allow_inf_nan=False)]
EnginePath = Annotated[str, Field(pattern=r"^/\S+$")]
NamespaceName = Annotated[str, AfterValidator(_namespace)]
TokenVia = Literal["auth", "header", "query"]
Delivery = Literal["at_least_once", "at_most_once"]


class Price(BaseModel):
    """What a model costs per million tokens; ``cached`` is the price of input from a cache, else it costs as input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    input: Amount
    output: Amount
    cached: Amount | None = None


class Settings(BaseSettings):
    """The deployment's settings. Each field is ``SUPERVISOR_<NAME>`` in the environment, ``.env`` or a secret file.

    A file has the variable's name, and is looked for in /run/secrets and in $CREDENTIALS_DIRECTORY.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # Not in the repr: the URL of a database server holds a password.
    registry_url: str = Field(
        "sqlite+aiosqlite:///supervisor.db", repr=False, description="Where the registry and journal are."
    )
    synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL", description="SQLite's synchronous: FULL also survives power loss, at a price per commit."
    )
    api_url: HttpUrl = Field("https://api.x-or.cloud/dev/aiwm", description="The platform's REST API.")
    ws_url: SocketUrl = Field(
        "wss://api.x-or.cloud/dev/aiwm/chat", description="The platform's Socket.IO URL; its path is the namespace."
    )
    ws_namespace: NamespaceName = Field(
        "auto", description="The namespace, or auto: the URL's path, then the known ones."
    )
    ws_path: EnginePath = Field("/socket.io", description="The Engine.IO path, where a proxy wants another.")
    token_via: TokenVia = Field("auth", description="How the token is passed: auth, header or query.")
    ca_file: Path | None = Field(None, description="A PEM file of certificate authorities to trust.")
    proxy: HttpProxy | None = Field(None, description="An HTTP proxy for the platform; http://user:password@host.")
    admin_host: str = Field("127.0.0.1", description="Where health, metrics and the admin API listen.")
    admin_port: int = Field(8640, ge=0, le=65535, description="Their port; 0 takes a free one.")
    admin_token: SecretStr | None = Field(None, description="Bearer token of the admin API; required off loopback.")
    metrics_token: SecretStr | None = Field(None, description="Bearer token of /metrics, if it is to have one.")
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (), description="Fernet keys: the first encrypts, all decrypt."
    )
    agents_dir: Path | None = Field(None, description="The folder of handlers; else ./agents, else the bundled ones.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least level logged.")
    log_format: Literal["console", "json"] = Field(
        "console", description="console: for people, to standard error; json: an object a line, to standard output."
    )
    connect_rate: float = Field(50, gt=0, allow_inf_nan=False, description="Connection attempts per second and host.")
    auth_rate: float = Field(20, gt=0, allow_inf_nan=False, description="Token requests per second and host.")
    auth_concurrency: int = Field(10, ge=1, description="Token requests at once per host.")
    connect_concurrency: int = Field(100, ge=1, description="Connection attempts at once per host.")
    concurrency: int = Field(256, ge=1, description="Handlers running at once, in all; most of them wait.")
    handler_threads: int = Field(
        32, ge=1, description="Threads for handlers that are plain functions; one agent may use half of them."
    )
    drain_seconds: Seconds = Field(60, description="How long a stop waits for running handlers.")
    handshake_seconds: Seconds = Field(15, description="How long one attempt to connect may take.")
    ack_seconds: Seconds = Field(15, description="How long an acknowledgement may take.")
    backoff_initial_seconds: Seconds = Field(1, description="The bound of the first delay after a failure.")
    backoff_cap_seconds: Seconds = Field(60, description="The bound of every delay after a failure.")
    reject_initial_seconds: Seconds = Field(300, description="The first wait after the platform refused an agent.")
    reject_cap_seconds: Seconds = Field(3600, description="The longest wait after the platform refused an agent.")
    stable_seconds: Seconds = Field(60, description="How long online before the backoff starts over.")
    refresh_margin: Seconds = Field(300, description="How long before its expiry a token is renewed.")
    delivery: Delivery = Field("at_least_once", description="Whether a send whose ack was lost is repeated.")
    agent_concurrency: int = Field(4, ge=1, description="Conversations of one agent handled at once.")
    inbox_limit: int = Field(10_000, ge=1, description="Messages an agent may have waiting.")
    loop_limit: int = Field(
        20, ge=0, description="Messages a minute and conversation that no person wrote; then a pause. 0: no limit."
    )
    backfill_age: Seconds = Field(86_400, description="How far back missed messages are asked for after a gap.")
    backfill_messages: int = Field(1000, ge=0, description="How many messages of a conversation; 0 turns it off.")
    memory_limit: Bytes = Field(
        256 * 1024 * 1024, description="Bytes of waiting messages in memory, of all agents; the others stay on disk."
    )
    timeout_seconds: Seconds = Field(300, description="How long a handler may take for a message.")
    max_attempts: int = Field(5, ge=1, description="Attempts before a message becomes a dead letter.")
    journal_retention: Seconds = Field(604_800, description="How long settled messages are kept.")
    journal_encryption: bool = Field(False, description="Encrypt journaled text with SECRET_KEYS.")
    budget_tokens: TokenBudget | None = Field(None, description="LLM tokens that the fleet may use in a UTC day.")
    budget_cost: CostBudget | None = Field(None, description="What the fleet may spend in a UTC day, by PRICES.")
    prices: Annotated[dict[str, Price], NoDecode, BeforeValidator(_object)] = Field(
        {}, description='Per million tokens, JSON: {"model": {"input": 3, "output": 15, "cached": 0.3}}.'
    )
    otlp_endpoint: HttpUrl | None = Field(
        None, description="Where traces of messages go, by OTLP over HTTP: http://host:4318; needs the extra otel."
    )
    otlp_headers: Annotated[SecretStr | None, AfterValidator(_readable_headers)] = Field(
        None, description="Headers of those requests, as a key of the collector's: name=value, comma-separated."
    )
    trace_sample_ratio: float = Field(1.0, ge=0, le=1, description="The share of messages that have a trace, 0 to 1.")
    metrics_agent_limit: int = Field(1000, ge=0, description="Agents with series of their own.")
    secret_env_prefixes: TextList = Field(("AGENT_",), description="Variables that a row may name.")
    secret_dirs: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (RUN_SECRETS,), description="Folders whose files a row may name."
    )
    allowed_hosts: TextList = Field((), description="Further hosts that a row's URLs may name.")
    handler_packages: TextList = Field((), description="Installed packages whose handlers a row may name.")
    allow_commands: bool = Field(False, description="Whether handlers may run programs of this machine.")
    allow_private_webhooks: bool = Field(False, description="Whether webhooks may go to private addresses.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  replaced by our own
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls), dotenv_settings, file_secret_settings

    @model_validator(mode="after")
    def _admin_token_off_loopback(self) -> Self:
        if self.admin_host not in LOOPBACK and not (self.admin_token and self.admin_token.get_secret_value()):
            raise ValueError("ADMIN_TOKEN is required when ADMIN_HOST is not loopback")
        return self

    @model_validator(mode="after")
    def _keys_to_encrypt_with(self) -> Self:
        if self.journal_encryption and not self.secret_keys:
            raise ValueError(
                "JOURNAL_ENCRYPTION needs SUPERVISOR_SECRET_KEYS; make a key with: supervisor keys generate"
            )
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that agents may talk to: those of API_URL and WS_URL, and ALLOWED_HOSTS."""
        own = {urlsplit(self.api_url).hostname or "", urlsplit(self.ws_url).hostname or ""}
        return frozenset(own | {host.lower() for host in self.allowed_hosts})


class AgentSettings(BaseModel):
    """What a row's ``settings`` may override; other keys are the handler's own and reach it as ``ctx.settings``."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    concurrency: int | None = Field(None, ge=1, le=1000)
    inbox_limit: int | None = Field(None, ge=1)
    loop_limit: int | None = Field(None, ge=0)
    timeout_seconds: Seconds | None = None
    max_attempts: int | None = Field(None, ge=1, le=1000)
    api_url: HttpUrl | None = None
    ws_url: SocketUrl | None = None
    ws_namespace: NamespaceName | None = None
    ws_path: EnginePath | None = None
    token_via: TokenVia | None = None
    delivery: Delivery | None = None
    roles: RoleList = Field(("user",), description="Whose messages reach the handler: user, assistant, system, tool.")
    typing: bool = Field(True, description="Whether people see that the agent types while its handler works.")
    mark_read: bool = Field(False, description="Whether messages are marked as read when the handler starts on them.")
    commands: bool = Field(True, description="Whether /stop, /reload and /status in a chat are obeyed.")
    budget_tokens: TokenBudget | None = Field(None, description="LLM tokens that this agent may use in a UTC day.")
    budget_cost: CostBudget | None = Field(None, description="What this agent may spend in a UTC day, by PRICES.")


#: The deployment's settings that a row may override, by the row's key.
OVERRIDES = {
    "concurrency": "agent_concurrency",
    **{
        name: name
        for name in AgentSettings.model_fields
        if name in Settings.model_fields and name not in ("concurrency", "budget_tokens", "budget_cost")
    },
}
#: The keys of a row's ``settings`` that are the supervisor's; all others belong to the handler.
AGENT_SETTING_NAMES = frozenset(AgentSettings.model_fields)


def parse_agent_settings(raw: Mapping[str, Any], deployment: Settings) -> AgentSettings:
    """Read a row's settings within the deployment's bounds.

    Raises:
        ConfigurationError: a value is of the wrong kind, or a URL's host is not among the allowed ones.
    """
    try:
        settings = AgentSettings.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigurationError(f"settings: {_first_problem(error)}") from None
    for name in ("api_url", "ws_url"):
        url = getattr(settings, name)
        if url and (host := urlsplit(url).hostname) not in deployment.hosts:
            raise ConfigurationError(f"settings: {name}: host {host} is not allowed; add it to {PREFIX}ALLOWED_HOSTS")
    return settings


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    return f"{name}: {text}" if name else text


def _unknown_variables(variables: Mapping[str, str | None]) -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    ours = {name.upper(): value for name, value in variables.items() if name.upper().startswith(PREFIX)}
    return sorted(name for name, value in ours.items() if name not in known and not _is_foreign(name, value))


def _is_foreign(name: str, value: str | None) -> bool:
    return bool(_FOREIGN.match(name)) or name.removeprefix(PREFIX) in _SUPERVISORD or _is_service_link(name, value)


def _is_service_link(name: str, value: str | None) -> bool:
    # A Kubernetes service called "supervisor-admin" injects SUPERVISOR_ADMIN_PORT=tcp://…: not meant for us.
    return name.endswith("_PORT") and bool(value) and str(value).startswith(("tcp://", "udp://", "sctp://"))


class _Environment(EnvSettingsSource):
    """The environment, without what Kubernetes puts there under names of ours."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables = super()._load_env_vars()
        return {name: value for name, value in variables.items() if not _is_service_link(name.upper(), value)}


def _check_env_file(path: Path | None) -> None:
    """Refuse a line that python-dotenv would pass over with a warning."""
    if path is None or not path.is_file():
        return
    try:
        with path.open(encoding="utf-8") as lines:
            broken = next((binding.original.line for binding in parse_stream(lines) if binding.error), None)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {path}: {error}") from None
    if broken is not None:
        raise ConfigurationError(f"{path}, line {broken}: this is not NAME=value")


def _secret_folders() -> list[Path]:
    """/run/secrets, and what systemd's LoadCredential= hands over, which counts first."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return [RUN_SECRETS, *([Path(credentials)] if credentials else [])]


def load_settings(env_file: Path | None = Path(".env"), *, run_secrets: Path | None = None, **given: Any) -> Settings:
    """Read the settings: ``given`` first, then the environment, ``env_file`` and files that are named as variables are.

    Args:
        run_secrets: the folder of these files; else /run/secrets and systemd's credentials.

    Raises:
        ConfigurationError: an unknown ``SUPERVISOR_*`` variable, which is named with the nearest known one, or a
            value that does not fit; the value itself is never repeated, it may be a secret.
    """
    _check_env_file(env_file)
    try:
        in_file = DotEnvSettingsSource(Settings, env_file=env_file).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {env_file}: {error}") from None
    if unknown := _unknown_variables({**in_file, **os.environ}):
        known = [PREFIX + name.upper() for name in Settings.model_fields]
        nearest = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.0)[0]
        raise ConfigurationError(f"Unknown setting {unknown[0]}; did you mean {nearest}?")
    for name in _NEVER_EMPTY:
        if os.environ.get(PREFIX + name) == "":
            # An empty variable means "not set" elsewhere; here that would be the production platform.
            raise ConfigurationError(f"{PREFIX}{name} is empty; give it a value, or unset it for the default")
    folders = [folder for folder in ([run_secrets] if run_secrets else _secret_folders()) if folder.is_dir()]
    try:
        return Settings(_env_file=env_file, _secrets_dir=folders or None, **given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = f"{PREFIX}{str(first['loc'][0]).upper()}: " if first["loc"] else PREFIX
        raise ConfigurationError(f"{name}{first['msg'].removeprefix('Value error, ')}") from None
    except (OSError, UnicodeDecodeError, SettingsError) as error:
        # Not the library's own words for it: they may repeat what the file holds.
        cause = error.__cause__ if isinstance(error, SettingsError) else error
        reason = cause.strerror if isinstance(cause, OSError) else "a file is not UTF-8 text"
        raise ConfigurationError(f"Cannot read the files of {' and '.join(map(str, folders))}: {reason}") from None
