"""README and operate.md name settings that exist."""

from __future__ import annotations

import re

from supervisor.settings import Settings
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()
OPERATE = (ROOT / "docs/operate.md").read_text()
SETTINGS = {name.upper() for name in Settings.model_fields}


def test_every_setting_of_the_table_exists() -> None:
    table = OPERATE.split("| setting | default |")[1].split("\n\n")[0]
    names = {name for row in table.splitlines() for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert names
    assert names <= SETTINGS


def test_every_setting_that_readme_names_exists() -> None:
    sentence = README.split("The few that most deployments set")[1].split("\n\n")[0]
    names = re.findall(r"`([A-Z_]+\*?)`", sentence)
    assert names
    for name in names:
        # With a star a family is named.
        assert name in SETTINGS or any(one.startswith(name[:-1]) for one in SETTINGS if name.endswith("*")), name
