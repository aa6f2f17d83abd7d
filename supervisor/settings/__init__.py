"""The deployment's settings (``SUPERVISOR_*``) and each agent's own (its row's ``settings``).

The only reader of the environment, with :mod:`supervisor.settings.secrets`, which resolves the references of rows.
May import handler and core. What follows from a setting belongs to whoever is given it. The kinds of values are in
:mod:`supervisor.settings.kinds`.
"""

from supervisor.settings.environment import load_settings
from supervisor.settings.kinds import Price
from supervisor.settings.models import LOOPBACK, OVERRIDES, Settings
from supervisor.settings.rows import AGENT_SETTING_NAMES, AgentSettings, EffectiveSettings, parse_agent_settings
from supervisor.settings.sources import PREFIX

__all__ = [
    "AGENT_SETTING_NAMES",
    "LOOPBACK",
    "OVERRIDES",
    "PREFIX",
    "AgentSettings",
    "EffectiveSettings",
    "Price",
    "Settings",
    "load_settings",
    "parse_agent_settings",
]
