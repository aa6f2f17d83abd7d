"""Where a fleet breaks first: the page says what the arithmetic does, and the arithmetic starts from what is so."""

from __future__ import annotations

import re

import pytest

from docs.scale import FLEETS, PAGE, Costs, Load, figure, fleets_table, order_table, slowest_connects, uses, written
from supervisor.settings import Settings

TEXT = PAGE.read_text(encoding="utf-8")
COSTS = Costs(
    trip_us=500, server_us=100, log_bytes=3000, disk_bytes=2000, presence_us=20, agent_kib=100, process_mib=50
)


def test_the_page_is_what_the_script_writes() -> None:
    assert written(TEXT) == TEXT, "write it anew: python docs/scale.py"
    assert written(TEXT.replace("| memory of", "| Memory of")) == TEXT


def test_the_load_is_that_of_the_settings_as_they_come() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    load = Load()
    assert load.connect_rate == defaults["connect_rate"]
    assert load.auth_rate == defaults["auth_rate"]
    assert load.retention_days * 86_400 == defaults["journal_retention"]


def test_a_fleet_takes_what_can_be_counted_by_hand() -> None:
    found = {one.what: one.used for one in uses(30_000, 10, COSTS)}
    # A hundred messages a second in all, ten of them here; three thousand agents here hear of fifty a second.
    assert found == pytest.approx(
        {
            "memory of a supervisor": 50 + 3000 * 100 / 1024,
            "a supervisor's core: messages": 0.5,
            "a supervisor's core: presences while others connect": 300,
            "the platform: presences it sends then": 1_500_000,
            "all connect, at CONNECT_RATE": 10,
            "all have a token, at AUTH_RATE": 25,
            "the server's cores: messages": 0.01,
            "the server's commits, where no batches form": 300,
            "the server's log": 0.3,
            "the server's disk, for JOURNAL_RETENTION": 100 * 2000 * 7 * 86_400 / 1e9,
            "the server's connections": 60,
            "rows of replicas that are read": 100,
        }
    )
    assert slowest_connects(30_000, 10, COSTS) == pytest.approx(0.5 / (3000 * 20e-6))


def test_what_is_full_is_bold_and_named_the_fullest_first() -> None:
    rows = [re.split(r" \| ", line.strip("| ")) for line in list(fleets_table())[2:-1]]
    for column, (fleet, line) in enumerate(zip(FLEETS, order_table(), strict=True), start=2):
        full = [row[0] for row in rows if row[column].startswith("**")]
        named = re.findall(r"(?:\*\* |; )([^;]+?) \(([\d.]+) times\)", line)
        assert {name for name, _ in named} == set(full)
        shares = [float(share) for _, share in named]
        assert shares == sorted(shares, reverse=True)
        assert all(share >= 1 for share in shares), fleet


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00163, "0.00163"), (2.0, "2"), (33.33, "33.3"), (60.0, "60"), (3833.0, "3,830"), (1e6, "1,000,000")],
)
def test_figures_have_three_digits_that_matter(value: float, text: str) -> None:
    assert figure(value) == text
