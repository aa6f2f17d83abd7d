"""The systemd unit: systemd's own check of it, and that it fits what the supervisor does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.service.service import CLOSE_SECONDS
from supervisor.service.watchdogs import STALL_SECONDS
from supervisor.settings import PREFIX, Settings
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "aiwm-supervisor.service"
PROGRAM = "/opt/aiwm-supervisor/venv/bin/supervisor"


def directives() -> dict[str, list[str]]:
    """Each directive of the unit and its values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, equals, value = line.partition("=")
            assert equals, line
            found.setdefault(name, []).append(value)
    return found


def seconds(value: str) -> float:
    match = re.fullmatch(r"(\d+)(s|min)", value)
    assert match, value
    return int(match[1]) * {"s": 1, "min": 60}[match[2]]


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        absent = "there is no systemd-analyze: apt-get install systemd"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_takes_every_line_of_it(tmp_path: Path) -> None:
    # It looks whether the program is there, so it is given one that is.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=gently"))
    assert "gently" in analyze("verify", "--man=no", str(unit)).stderr, "the check sees a wrong line"


def test_it_leaves_the_service_little_that_it_could_do() -> None:
    done = analyze("security", "--offline=yes", "--no-pager", "--threshold=20", str(UNIT))
    assert done.returncode == 0, done.stdout
    assert re.search(r"Overall exposure level for aiwm-supervisor.service: [01]\.\d", done.stdout), done.stdout


def test_its_times_fit_those_of_the_supervisor() -> None:
    found = directives()
    drain = Settings.model_fields["drain_seconds"].default
    assert seconds(found["TimeoutStopSec"][0]) > drain + CLOSE_SECONDS
    assert seconds(found["WatchdogSec"][0]) > 2 * STALL_SECONDS, "the log says where the loop stands before the restart"
    assert found["Type"] == ["notify"]
    assert found["NotifyAccess"] == ["main"], "a handler's program cannot speak for us"
    assert found["KillMode"] == ["mixed"], "a drain lets handlers' programs finish"


def test_it_runs_our_program_with_settings_that_exist() -> None:
    found = directives()
    assert found["ExecStart"] == [f"{PROGRAM} run"]
    names = {word.partition("=")[0] for line in found["Environment"] for word in line.split()}
    ours = {name for name in names if name.startswith(PREFIX)}
    assert ours
    assert ours <= {PREFIX + name.upper() for name in Settings.model_fields}
    assert "PYTHONSAFEPATH" in names
    # Where systemd puts what LoadCredential= names.
    assert f"{PREFIX}SECRET_DIRS=/run/credentials/%n" in found["Environment"]


def test_its_user_is_the_one_that_is_made() -> None:
    made = (DEPLOY / "aiwm-supervisor.sysusers.conf").read_text().splitlines()[-1].split()
    assert [made[1]] == directives()["User"] == directives()["Group"] == directives()["StateDirectory"]
