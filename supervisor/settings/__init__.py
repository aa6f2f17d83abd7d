"""The deployment's settings (``SUPERVISOR_*``) and each agent's own (its row's ``settings``); DESIGN §6.

With :mod:`supervisor.settings.secrets`, which resolves the references that rows hold, the only reader of the
environment.
"""

from supervisor.settings.environment import load_settings
from supervisor.settings.kinds import (
    ROOT_IS_DEAF,
    Amount,
    Bytes,
    CostBudget,
    Delivery,
    EnginePath,
    HttpProxy,
    HttpUrl,
    NamespaceName,
    Price,
    ProxyUrl,
    RoleList,
    Seconds,
    SocketUrl,
    TextList,
    TokenBudget,
    TokenVia,
)
from supervisor.settings.models import (
    AGENT_SETTING_NAMES,
    LOOPBACK,
    OVERRIDES,
    PREFIX,
    RUN_SECRETS,
    AgentSettings,
    Settings,
    parse_agent_settings,
)

__all__ = [
    "AGENT_SETTING_NAMES",
    "LOOPBACK",
    "OVERRIDES",
    "PREFIX",
    "ROOT_IS_DEAF",
    "RUN_SECRETS",
    "AgentSettings",
    "Amount",
    "Bytes",
    "CostBudget",
    "Delivery",
    "EnginePath",
    "HttpProxy",
    "HttpUrl",
    "NamespaceName",
    "Price",
    "ProxyUrl",
    "RoleList",
    "Seconds",
    "Settings",
    "SocketUrl",
    "TextList",
    "TokenBudget",
    "TokenVia",
    "load_settings",
    "parse_agent_settings",
]
