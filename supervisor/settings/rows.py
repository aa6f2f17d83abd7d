"""What a row's ``settings`` may say, and what an agent runs with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from supervisor.core.problems import Problems, error_of
from supervisor.settings.kinds import (
    CostBudget,
    Delivery,
    EnginePath,
    HttpUrl,
    NamespaceName,
    PartKinds,
    RoleList,
    Seconds,
    SocketUrl,
    TokenBudget,
    TokenVia,
    WhenBusy,
)
from supervisor.settings.sources import PREFIX

if TYPE_CHECKING:
    from supervisor.settings.models import Settings


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
    show: PartKinds | None = Field(
        None,
        description="Which signs of its work people see: thinking, tool_call, tool_result; [] hides them. Unset: all, "
        "but none in conversations bridged from Discord, Telegram and their like.",
    )
    mark_read: bool = Field(False, description="Whether messages are marked as read when the handler starts on them.")
    commands: bool = Field(True, description="Whether /stop, /reload and /status in a chat are obeyed.")
    work: bool = Field(False, description="Whether works and reminders of the platform reach the handler as messages.")
    when_busy: WhenBusy = Field(
        "queue",
        description="What becomes of messages that come while one of their conversation is being answered. queue: each "
        "is answered by itself, in order. collect: one answer for all that wait. interrupt: as collect, and what is "
        "being answered begins again with them, unless a part of its answer is out.",
    )
    budget_tokens: TokenBudget | None = Field(None, description="LLM tokens that this agent may use in a UTC day.")
    budget_cost: CostBudget | None = Field(None, description="What this agent may spend in a UTC day, by PRICES.")


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """What one agent runs with; made by :meth:`supervisor.settings.Settings.effective`.

    The names and units are those of :class:`AgentSettings`; a concurrency of None is what suits the handler. A budget
    of None is no limit: the deployment's budgets are the fleet's and no default of an agent's.
    """

    concurrency: int | None
    inbox_limit: int
    loop_limit: int
    timeout_seconds: float
    max_attempts: int
    api_url: str
    ws_url: str
    ws_namespace: str
    ws_path: str
    token_via: TokenVia
    delivery: Delivery
    roles: tuple[str, ...]
    typing: bool
    show: tuple[str, ...] | None
    mark_read: bool
    commands: bool
    work: bool
    when_busy: WhenBusy
    budget_tokens: int | None
    budget_cost: float | None


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
        raise error_of([f"settings: {problem}" for problem in _problems(error)]) from None
    problems = Problems("settings")
    for name in ("api_url", "ws_url"):
        url = getattr(settings, name)
        if url and (host := urlsplit(url).hostname) not in deployment.hosts:
            problems.add(f"{name}: host {host} is not allowed; add it to {PREFIX}ALLOWED_HOSTS")
    problems.raise_found()
    return settings


def _problems(error: ValidationError) -> Iterator[str]:
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in one["loc"])
        text = one["msg"].removeprefix("Value error, ")
        yield f"{name}: {text}" if name else text
