"""What every test has: a clock that tests advance by hand, and an environment free of our settings."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clock import ManualClock
from tests.support.interrupts import restore_interrupts

pytest_plugins = [
    "tests.support.browser",
    "tests.support.logging",
    "tests.support.pgbouncer",
    "tests.support.promtool",
]


def pytest_configure() -> None:
    """The suite may be started in the background, and on a machine that others keep busy."""
    restore_interrupts()
    # How long an example takes says nothing about the code where the machine is shared.
    settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("shared machine")


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: no garbage collection has to look through all of it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that tests advance."""
    return ManualClock()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not see the settings of whoever runs them."""
    for name in [name for name in os.environ if name.startswith("SUPERVISOR_")]:
        monkeypatch.delenv(name)
