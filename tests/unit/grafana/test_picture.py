"""What pictures of dashboards are made of: units, intervals and tables as Grafana has them, and no empty panel."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from grafana.picture import Series, draw, first_row, theme
from grafana.picture.data import Line, differences, is_named, table
from grafana.picture.units import scale, written
from tests.support.dashboards import NAMES, Moment, Results, load, panels, targets

START, END = 1_800_000_000.0, 1_800_003_600.0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0, "s", "0 s"),
        (0.000468, "s", "468 µs"),
        (0.0212, "s", "21.2 ms"),
        (1.5, "s", "1.5 s"),
        (90, "s", "1.5 mins"),
        (7200, "s", "2 hours"),
        (-30, "s", "-30 s"),
        (5 * 86_400, "s", "5 days"),
        (0, "bytes", "0 B"),
        (1536, "bytes", "1.5 KiB"),
        (345 * 1024**2, "bytes", "345 MiB"),
        (0.1234, "percentunit", "12.3%"),
        (1.126, "percentunit", "113%"),
        (31.3, "currencyUSD", "$31.30"),
        (0.0857, "currencyUSD", "$0.0857"),
        (12_500, "currencyUSD", "$12.50K"),
        (314_159, "short", "314 K"),
        (2_500_000, "short", "2.5 Mil"),
        (0.071, "mps", "0.071 msg/s"),
        (12_400, "mps", "12.4 K msg/s"),
        (7, "none", "7"),
    ],
)
def test_values_are_written_as_grafana_writes_them(value: float, unit: str, shown: str) -> None:
    assert written(value, unit) == shown


def test_decimals_are_kept_where_a_panel_asks_for_them() -> None:
    assert written(0.9, "percentunit", 1) == "90.0%"


def test_a_unit_that_nobody_knows_is_no_number() -> None:
    with pytest.raises(KeyError):
        written(1.0, "furlongs")


def test_every_unit_of_the_dashboards_can_be_written() -> None:
    for name in NAMES:
        for panel in panels(load(name)):
            if panel["type"] != "text":
                written(1.0, panel["fieldConfig"]["defaults"]["unit"])


def test_axes_count_in_round_figures_of_their_unit() -> None:
    assert (scale(3 * 1024**2, "bytes"), scale(300, "s"), scale(30, "s"), scale(5000, "short")) == (1024**2, 60, 1, 1)


def test_intervals_are_filled_in_as_grafana_does() -> None:
    moment = Moment(START, END, 15.0, {"agent": "a1"})
    panel: dict[str, Any] = {}
    assert moment.interval(panel) == 15.0
    # Four scrapes at least, or a point and a scrape.
    assert moment.fill('rate(x{job=~"$job", agent=~"$agent"}[$__rate_interval])', 15.0) == (
        'rate(x{job=~".+", agent=~"a1"}[60000ms])'
    )
    assert moment.fill("increase(x[$__range])[${__interval}]", 300.0) == "increase(x[3600s])[300000ms]"
    assert moment.fill("rate(x[$__rate_interval])", 300.0) == "rate(x[315000ms])"
    today = moment.of({"timeFrom": "now/d"})
    assert (today.start % 86_400, today.end) == (0, END)
    assert moment.interval({"interval": "30m"}) == 1800


def test_buckets_are_told_apart_from_those_below() -> None:
    def bucket(le: str, *values: float) -> Line:
        return Line(le, Series({"le": le}, tuple((START + n, value) for n, value in enumerate(values))))

    bounds, columns = differences([bucket("+Inf", 5, 9), bucket("0.1", 2, 2), bucket("1", 4, 9)])
    assert bounds == [0.1, 1.0, math.inf]
    assert columns == {START: [2, 2, 1], START + 1: [2, 7, 0]}


def one(value: float, **labels: str) -> Series:
    return Series(labels, ((END, value),))


def test_tables_join_their_queries_by_labels() -> None:
    [panel] = [panel for panel in panels(load("fleet")) if panel["title"] == "Not online"]
    answers: Results = {
        (panel["id"], "A"): [one(3, agent="a1", name="Ann", instance="i"), one(0, agent="a2", instance="i")],
        (panel["id"], "B"): [one(60, agent="a1", name="Ann", instance="i")],
    }
    names, rows = table(panel, answers)
    assert names == ["Agent", "Name", "Messages waiting", "Token valid for"]
    assert rows == [
        {"Agent": "a1", "Name": "Ann", "Messages waiting": 3, "Token valid for": 60},
        {"Agent": "a2", "Messages waiting": 0},
    ]


def answered(dashboard: dict[str, Any]) -> Results:
    """Something for every query."""
    labels = {"le": "1", "agent": "a" * 24, "state": "online", "instance": "i", "version": "1", "model": "m"}
    samples = tuple((at, (at - START) / 3600) for at in range(int(START), int(END) + 1, 60))
    return {(panel["id"], target["refId"]): [Series(labels, samples)] for panel, target in targets(dashboard)}


def test_a_picture_is_as_large_as_its_grid_and_in_the_themes_colours(tmp_path: Path) -> None:
    dashboard = load("agent")
    draw(dashboard, answered(dashboard), (START, END), tmp_path / "agent.png", chosen={"agent": "a" * 24})
    with Image.open(tmp_path / "agent.png") as picture:
        bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
        assert picture.size == (1340, 98 + 34 * bottom)
        pixels = picture.convert("RGB")
        assert "#{:02x}{:02x}{:02x}".format(*pixels.getpixel((3, 3))) == theme.BACKGROUND  # type: ignore[misc]
        found = {"#{:02x}{:02x}{:02x}".format(*shade) for _, shade in pixels.getcolors(1 << 20) or []}  # type: ignore[misc]
        assert {theme.PANEL, theme.color("green"), theme.color("red")} <= found


def test_the_first_row_of_a_picture_can_be_shown_alone(tmp_path: Path) -> None:
    dashboard = load("agent")
    whole, part = tmp_path / "agent.png", tmp_path / "part.png"
    draw(dashboard, answered(dashboard), (START, END), whole)
    first_row(dashboard, whole, part)
    second = next(panel["gridPos"]["y"] for panel in dashboard["panels"] if panel["title"] == "Tokens and cost")
    with Image.open(whole) as all_of_it, Image.open(part) as cut:
        assert cut.size == (1340, 84 + 34 * second)
        assert list(cut.convert("RGB").tobytes()) == list(all_of_it.convert("RGB").crop((0, 0, *cut.size)).tobytes())


def test_what_never_happened_is_not_named_where_a_panel_says_so() -> None:
    [rare] = [panel for panel in panels(load("fleet")) if panel["title"] == "Lost connections, per minute"]
    [plain] = [panel for panel in panels(load("fleet")) if panel["title"] == "Error ratio by handler"]
    never, once = Line("a", one(0.0)), Line("b", Series({}, ((START, 2.0), (END, 0.0))))
    assert [is_named(rare, line) for line in (never, once)] == [False, True]
    assert [is_named(plain, line) for line in (never, once)] == [True, True]


def test_a_panel_without_anything_to_show_is_no_picture(tmp_path: Path) -> None:
    dashboard = load("agent")
    answers = answered(dashboard)
    [panel] = [panel for panel in panels(dashboard) if panel["title"] == "Cost rate: what an hour costs"]
    answers[panel["id"], "A"] = [one(math.nan)]
    with pytest.raises(ValueError, match="'Cost rate: what an hour costs' has nothing to show"):
        draw(dashboard, answers, (START, END), tmp_path / "agent.png")
    assert not (tmp_path / "agent.png").exists()


def test_a_kind_of_panel_that_is_not_known_is_told(tmp_path: Path) -> None:
    dashboard = load("agent")
    [panel] = [panel for panel in panels(dashboard) if panel["title"] == "Cost rate: what an hour costs"]
    panel["type"] = "hologram"
    with pytest.raises(ValueError, match="'Cost rate: what an hour costs' is of an unknown kind: hologram"):
        draw(dashboard, answered(dashboard), (START, END), tmp_path / "agent.png")
