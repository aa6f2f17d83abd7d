"""The deployment's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from supervisor.settings.kinds import (
    BUNDLED_HANDLERS,
    BundledHandlers,
    Bytes,
    CostBudget,
    Currency,
    Delivery,
    EnginePath,
    HttpProxy,
    HttpUrl,
    NamespaceName,
    PlatformCommands,
    Price,
    Seconds,
    SecondsOrNever,
    SocketUrl,
    TextList,
    TokenBudget,
    TokenVia,
    json_object,
    listed,
    readable_attributes,
    readable_headers,
)
from supervisor.settings.rows import AGENT_SETTING_NAMES, AgentSettings, EffectiveSettings, parse_agent_settings
from supervisor.settings.sources import PREFIX, EnvFile, Environment

RUN_SECRETS = Path("/run/secrets")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseSettings):
    """The deployment's settings. Each field is ``SUPERVISOR_<NAME>`` in the environment, ``.env`` or a secret file.

    A file has the variable's name, and is looked for in /run/secrets and in $CREDENTIALS_DIRECTORY.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # Left out of the repr: the URL of a database server holds a password.
    registry_url: str = Field(
        "sqlite+aiosqlite:///supervisor.db",
        repr=False,
        description="Where the registry and journal are: a file, or postgresql://USER:PASSWORD@HOST/DATABASE.",
    )
    registry_pooler: Literal["auto", "transaction"] = Field(
        "auto",
        description="auto: a pooler before PostgreSQL is recognised; transaction: there is one that looks like the "
        "server.",
    )
    synchronous: Literal["NORMAL", "FULL"] = Field(
        "NORMAL",
        description="FULL: what is committed also survives power loss, at a price per commit.",
    )
    migration_copy: bool = Field(
        True, description="Copy the registry beside itself before an upgrade changes it; deleted after 7 days."
    )
    api_url: HttpUrl = Field("https://api.x-or.cloud/dev/aiwm", description="The platform's REST API.")
    ws_url: SocketUrl = Field(
        "wss://api.x-or.cloud/dev/aiwm/chat", description="The platform's Socket.IO URL; its path is the namespace."
    )
    ws_namespace: NamespaceName = Field(
        "auto", description="The namespace, or auto: the URL's path, then the known ones."
    )
    ws_path: EnginePath = Field(
        "/socket.io", description="The Engine.IO path; where /socket.io is wrong, the known ones are tried."
    )
    token_via: TokenVia = Field("auth", description="How the token is passed: auth, header or query.")
    wire: Literal["auto", "socketio", "picows"] = Field(
        "auto",
        description="What carries the frames: picows, of the extra fast, takes less CPU; socketio is python-socketio's "
        "own client; auto: picows where it is installed.",
    )
    ca_file: Path | None = Field(None, description="A PEM file of certificate authorities to trust.")
    proxy: HttpProxy | None = Field(None, description="An HTTP proxy for the platform; http://user:password@host.")
    admin_host: str = Field("127.0.0.1", description="Where health, metrics and the admin API listen.")
    admin_port: int = Field(8640, ge=0, le=65535, description="Their port; 0 takes a free one.")
    advertise_url: HttpUrl | None = Field(
        None,
        description="Where others reach the admin port, such as http://10.0.0.5:8640; unset: as ADMIN_HOST and "
        "ADMIN_PORT say.",
    )
    admin_token: SecretStr | None = Field(None, description="Bearer token of the admin API; required off loopback.")
    admin_read_token: SecretStr | None = Field(
        None,
        description="A second token, to read only: no text of messages, no values of settings, no log, no traceback.",
    )
    metrics_token: SecretStr | None = Field(None, description="Bearer token of /metrics, if it is to have one.")
    deployment_name: str = Field(
        "", max_length=60, description="What the console calls this deployment: production, staging, …"
    )
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(listed)] = Field(
        (), description="Fernet keys: the first encrypts, all decrypt."
    )
    agents_dir: Path | None = Field(None, description="The folder of handlers; else ./agents, else the bundled ones.")
    agents_file: Path | None = Field(
        None,
        description="A fleet as YAML, as agents import reads it: imported at the start and whenever it changes.",
    )
    agents_prune: bool = Field(False, description="Whether agents that AGENTS_FILE lacks are removed.")
    bundled_handlers: BundledHandlers = Field(
        BUNDLED_HANDLERS,
        description="Which bundled handlers a row may name, after those of the folder: all, some of them, or none.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least level logged.")
    log_format: Literal["console", "json"] = Field(
        "console", description="console: for people, to standard error; json: an object a line, to standard output."
    )
    log_tracebacks: bool = Field(
        False,
        description="Whether what a handler's code raises is logged with its traceback, as at LOG_LEVEL=DEBUG and with "
        "run --reload; it may hold what people said.",
    )
    lease_seconds: Seconds = Field(
        15, ge=1, le=300, description="How long a replica may stand still before others take its agents."
    )
    replica_capacity: float = Field(
        1, gt=0, le=1000, description="How many agents a replica gets, beside others: one with 2 gets twice as many."
    )
    rebalance_moves: int | None = Field(
        None,
        ge=0,
        description="How many agents may be on their way to other replicas at once; unset: what may connect in 4 s.",
    )
    connect_rate: float = Field(50, gt=0, allow_inf_nan=False, description="Connection attempts per second and host.")
    auth_rate: float = Field(20, gt=0, allow_inf_nan=False, description="Token requests per second and host.")
    api_rate: float = Field(
        50, gt=0, allow_inf_nan=False, description="Other requests to the platform's API per second and host."
    )
    auth_concurrency: int = Field(10, ge=1, description="Token requests at once per host.")
    connect_concurrency: int = Field(100, ge=1, description="Connection attempts at once per host.")
    concurrency: int = Field(256, ge=1, description="Handlers running at once, in all; most of them wait.")
    handler_threads: int = Field(
        32, ge=1, description="Threads for handlers that are plain functions; one agent may use half of them."
    )
    drain_seconds: Seconds = Field(60, description="How long a stop waits for running handlers.")
    stall_seconds: SecondsOrNever = Field(
        60, description="How long the event loop may stand before the process ends itself; 0: for ever."
    )
    heartbeat_seconds: Seconds = Field(45, description="How often agents send heartbeats, where they do.")
    handshake_seconds: Seconds = Field(15, description="How long one attempt to connect may take.")
    ack_seconds: Seconds = Field(15, description="How long an acknowledgement may take.")
    backoff_initial_seconds: Seconds = Field(1, description="The bound of the first delay after a failure.")
    backoff_cap_seconds: Seconds = Field(60, description="The bound of every delay after a failure.")
    reject_initial_seconds: Seconds = Field(300, description="The first wait after the platform refused an agent.")
    reject_cap_seconds: Seconds = Field(3600, description="The longest wait after the platform refused an agent.")
    stable_seconds: Seconds = Field(60, description="How long online before the backoff starts over.")
    refresh_margin: Seconds = Field(300, description="How long before its expiry a token is renewed.")
    socket_max_age: Seconds = Field(
        3000,
        description="The age at which sockets are renewed where the platform forgets agents after an hour.",
    )
    delivery: Delivery = Field("at_least_once", description="Whether a send whose ack was lost is repeated.")
    agent_concurrency: int | None = Field(
        None,
        ge=1,
        description="Conversations of one agent handled at once. Unset: 4 for a handler that runs in threads, half of "
        "CONCURRENCY for one that waits in the event loop.",
    )
    inbox_limit: int = Field(10_000, ge=1, description="Messages an agent may have waiting.")
    loop_limit: int = Field(
        20, ge=0, description="Messages a minute and conversation that no person wrote; then a pause. 0: no limit."
    )
    backfill_age: Seconds = Field(86_400, description="How far back missed messages are asked for after a gap.")
    backfill_messages: int = Field(1000, ge=0, description="How many messages of a conversation; 0 turns it off.")
    conversations_seconds: Seconds = Field(
        300, description="How often each agent looks for conversations begun without it; less often in a large fleet."
    )
    instruction_seconds: Seconds = Field(
        60, description="How often instruction and settings are asked for anew; less often in a large fleet."
    )
    memory_limit: Bytes = Field(
        256 * 1024 * 1024, description="Bytes of waiting messages in memory, of all agents; the others stay on disk."
    )
    timeout_seconds: Seconds = Field(300, description="How long a handler may take for a message.")
    max_attempts: int = Field(5, ge=1, description="Attempts before a message becomes a dead letter.")
    journal_retention: Seconds = Field(604_800, description="How long settled messages are kept.")
    journal_encryption: bool = Field(False, description="Encrypt journaled text with SECRET_KEYS.")
    budget_tokens: TokenBudget | None = Field(None, description="LLM tokens that the fleet may use in a UTC day.")
    budget_cost: CostBudget | None = Field(None, description="What the fleet may spend in a UTC day, by PRICES.")
    prices: Annotated[dict[str, Price], NoDecode, BeforeValidator(json_object)] = Field(
        {}, description='Per million tokens, JSON: {"model": {"input": 3, "output": 15, "cached": 0.3}}.'
    )
    currency: Currency = Field(
        "USD",
        description="What PRICES are in, by its three letters; shown beside amounts, nothing is converted.",
    )
    otlp_endpoint: HttpUrl | None = Field(
        None, description="Where traces of messages go, by OTLP over HTTP: http://host:4318; needs the extra otel."
    )
    otlp_headers: Annotated[SecretStr | None, AfterValidator(readable_headers)] = Field(
        None, description="Headers of those requests, as a key of the collector's: name=value, comma-separated."
    )
    otlp_resource: Annotated[str, AfterValidator(readable_attributes)] = Field(
        "",
        description="Attributes of the traces' resource: name=value, comma-separated, such as k8s.cluster.name=one; "
        "DEPLOYMENT_NAME is among them as deployment.environment.name.",
    )
    trace_sample_ratio: float = Field(1.0, ge=0, le=1, description="The share of messages that have a trace, 0 to 1.")
    metrics_agent_limit: int = Field(1000, ge=0, description="Agents with series of their own.")
    secret_env_prefixes: TextList = Field(("AGENT_",), description="Variables that a row may name.")
    secret_dirs: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(listed)] = Field(
        (RUN_SECRETS,), description="Folders whose files a row may name."
    )
    allowed_hosts: TextList = Field((), description="Further hosts that a row's URLs may name.")
    handler_packages: TextList = Field((), description="Installed packages whose handlers a row may name.")
    allow_commands: bool = Field(False, description="Whether handlers may run programs of this machine.")
    platform_commands: PlatformCommands = Field(
        ("stop", "reload", "inspect", "sleep", "wake"),
        description="Which commands of the platform agents obey: of these words, or none.",
    )
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
        path = getattr(dotenv_settings, "env_file", None)
        return init_settings, Environment(settings_cls), EnvFile(settings_cls, path), file_secret_settings

    @model_validator(mode="before")
    @classmethod
    def _the_url_tells_of_the_pooler(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Whoever opens a registry has its URL alone.
        url = values.get("registry_url")
        if values.get("registry_pooler") == "transaction" and isinstance(url, str) and url.startswith("postgres"):
            return values | {"registry_url": f"{url}{'&' if '?' in url else '?'}pooler=transaction"}
        return values

    @model_validator(mode="after")
    def _admin_token_off_loopback(self) -> Self:
        if self.admin_host not in LOOPBACK and not (self.admin_token and self.admin_token.get_secret_value()):
            raise ValueError("ADMIN_TOKEN is required when ADMIN_HOST is not loopback")
        return self

    @model_validator(mode="after")
    def _a_token_for_readers_beside_one_for_all(self) -> Self:
        full, read = self.admin_token, self.admin_read_token
        if read is not None and read.get_secret_value():
            if full is None or not full.get_secret_value():
                raise ValueError("ADMIN_READ_TOKEN is no bound without ADMIN_TOKEN; set that too")
            if full.get_secret_value() == read.get_secret_value():
                raise ValueError("ADMIN_READ_TOKEN is the same as ADMIN_TOKEN; whoever has it could do everything")
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

    @property
    def shows_tracebacks(self) -> bool:
        """Whether what a handler's code raises is logged with its traceback."""
        return self.log_tracebacks or self.log_level == "DEBUG"

    def effective(self, row: Mapping[str, Any]) -> EffectiveSettings:
        """What an agent runs with: the ``settings`` of its row, and the deployment's where the row gives none.

        Raises:
            ConfigurationError: as :func:`parse_agent_settings`.
        """
        defaults = _defaults_of(self)
        if AGENT_SETTING_NAMES.isdisjoint(row):
            return _unchanged(defaults)
        return _combined(parse_agent_settings(row, self), defaults)


_EFFECTIVE: Final = tuple(field.name for field in fields(EffectiveSettings))
#: The deployment's settings that a row may override, by the row's key.
OVERRIDES = {
    "concurrency": "agent_concurrency",
    **{
        name: name
        for name in AgentSettings.model_fields
        if name in Settings.model_fields and name not in ("concurrency", "budget_tokens", "budget_cost")
    },
}
#: The deployment's values of those, in the same order.
_defaults_of: Final = attrgetter(*OVERRIDES.values())


def _combined(own: AgentSettings, defaults: tuple[Any, ...]) -> EffectiveSettings:
    """A row's settings, and for what it leaves out the deployment's, in the order of :data:`OVERRIDES`."""
    values = {name: getattr(own, name) for name in _EFFECTIVE}
    given = {key: default for key, default in zip(OVERRIDES, defaults, strict=True) if values[key] is None}
    return EffectiveSettings(**(values | given))


@lru_cache(maxsize=8)
def _unchanged(defaults: tuple[Any, ...]) -> EffectiveSettings:
    """Most rows say nothing of it: their agents share what they run with."""
    return _combined(AgentSettings(), defaults)
