"""Writes the dashboards: ``python -m grafana.build``. What they hold is in ``fleet``, ``agent`` and ``tokens``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import agent, fleet, tokens

FOLDER: Final = Path(__file__).parent


def dashboards() -> dict[str, Dashboard]:
    """All dashboards, by the name of their file."""
    return {"fleet.json": fleet.build(), "agent.json": agent.build(), "tokens.json": tokens.build()}


def encode(dashboard: Dashboard) -> str:
    """A dashboard as its file holds it."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file anew."""
    for name, dashboard in dashboards().items():
        (FOLDER / name).write_text(encode(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
