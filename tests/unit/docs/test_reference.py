"""The reference pages are what the code says, and leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.build import FOLDER, pages
from supervisor.cli.app import app
from supervisor.settings import AgentSettings, Settings
from supervisor.telemetry.metrics import Metrics
from tests.support.command import InProcess

PAGES = pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_committed_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name], "write it anew: python docs/build.py"
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(PAGES)


def test_every_setting_metric_and_command_is_there() -> None:
    for name in Settings.model_fields:
        assert f"| `SUPERVISOR_{name.upper()}` " in PAGES["settings.md"]
    for key in AgentSettings.model_fields:
        assert f"| `{key}` " in PAGES["settings.md"].partition("## Settings of one agent")[2]
    for metric in Metrics().describe():
        assert f"| `{metric.name}` " in PAGES["metrics.md"]
    headings = re.findall(r"^## supervisor (\S+)", PAGES["commands.md"], re.MULTILINE)
    groups = [group.name for group in app.registered_groups]
    assert {*headings} == {
        *groups,
        *(one.name or str(one.callback.__name__) for one in app.registered_commands if one.callback),
    }


def test_a_table_is_one_and_every_link_leads_somewhere() -> None:
    for page in PAGES.values():
        columns = 0
        for line in page.splitlines():
            # A bar within a cell is escaped.
            now = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            assert columns in (0, now) or now == 0, line
            columns = now
    anchors = {line[3:].replace(" ", "-") for line in PAGES["commands.md"].splitlines() if line.startswith("## ")}
    assert {*re.findall(r"\(#([\w-]+)\)", PAGES["commands.md"])} == anchors


def test_the_commands_page_has_what_help_has(tmp_path: Path) -> None:
    command = InProcess(tmp_path)
    for name in ("agents add", "doctor", "logs", "keys rotate", "messages purge"):
        page = PAGES["commands.md"].partition(f"## supervisor {name}\n")[2].partition("\n## ")[0]
        shown = command.ok(*name.split(), "--help", COLUMNS="200")
        options = {*re.findall(r"--[a-z][a-z-]+", shown)} - {"--help"}
        assert options
        assert options <= {*re.findall(r"--[a-z][a-z-]+", page)}, name
