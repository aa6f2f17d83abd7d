"""The colours of series by their names: green is fine, red is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Colors = Mapping[str, str]
STATES: Final[Colors] = {
    "online": "green",
    "registering": "light-blue",
    "connecting": "blue",
    "authenticating": "super-light-blue",
    "backoff": "orange",
    "rejected": "red",
    "faulted": "dark-red",
    "paused": "#7b8087",
    "draining": "#9aa0a6",
    "stopped": "#5c6066",
}
ATTEMPTS: Final[Colors] = {
    "online": "green",
    "retry": "orange",
    "reauthenticate": "yellow",
    "kicked": "purple",
    "reject": "red",
    "fault": "dark-red",
}
REQUESTS: Final[Colors] = {"ok": "green", "retry": "orange", "rejected": "red", "fault": "dark-red"}
OUTCOMES: Final[Colors] = {
    "done": "green",
    "retried": "yellow",
    "dead": "red",
    "timeout": "orange",
    "lost": "purple",
    "cancelled": "blue",
    "released": "super-light-blue",
}
SENDS: Final[Colors] = {
    "acked": "green",
    "refused": "red",
    "timeout": "orange",
    "lost": "purple",
    "unknown": "dark-red",
}
TYPES: Final[Colors] = {"input": "blue", "output": "orange", "cached": "green"}
QUANTILES: Final[Colors] = {"p50": "green", "p95": "yellow", "p99": "red"}
REPLICAS: Final[Colors] = {"living": "green", "draining": "#9aa0a6"}
HANDOVERS: Final[Colors] = {"ok": "green", "cut_short": "orange", "called_off": "yellow", "taken_over": "red"}
