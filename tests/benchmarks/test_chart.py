"""The plot shows each figure at its size, says what was not measured, and is XML whatever the words are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.benchmarks.chart import HEIGHT, Panel, draw

GROWTH = Path(__file__).with_name("growth.py")
SVG = "{http://www.w3.org/2000/svg}"


def test_points_stand_as_high_as_their_values_and_each_line_has_its_colour() -> None:
    lines = {"supervisor": {100: 10.0, 1_000: 40.0}, "node": {100: 5.0, 1_000: 20.0}}
    root = ET.fromstring(draw([(Panel("CPU", "s"), lines)]))
    circles = [
        (one.get("fill"), float(one.get("cx", "")), float(one.get("cy", ""))) for one in root.iter(f"{SVG}circle")
    ]
    colours = {colour for colour, _, _ in circles}
    assert len(circles) == 4
    assert len(colours) == 2
    [(_, left, low), (_, right, high)] = circles[:2]
    assert right > left
    assert low - high == HEIGHT * 0.75
    words = [one.text for one in root.iter(f"{SVG}text")]
    assert {"CPU (s)", "supervisor", "node", "100", "1,000", "10", "40"} <= set(words)


def test_what_was_not_measured_is_said_and_panels_may_be_empty() -> None:
    root = ET.fromstring(draw([(Panel("CPU", "s"), {})], ["10,000 agents need <more> files & more"]))
    assert [one.text for one in root.iter(f"{SVG}text")] == ["CPU (s)", "10,000 agents need <more> files & more"]


def test_figures_that_were_kept_are_shown_again_with_what_is_missing(tmp_path: Path) -> None:
    kept, svg = tmp_path / "growth.json", tmp_path / "growth.svg"
    limit = "10,000 agents need 10,300 open files, and the limit is 8,192 (ulimit -Hn)"
    kept.write_text(json.dumps([[100, "supervisor", [0.5, 90, 700, 180]], [10_000, "", limit]]))
    ran = subprocess.run(
        [sys.executable, str(GROWTH), "--again", str(kept), "--svg", str(svg)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Memory (RSS) with all online (MiB), supervisor: 100: 90.0" in ran.stdout
    assert f"not measured: {limit}" in ran.stdout
    assert limit in {one.text for one in ET.parse(svg).getroot().iter(f"{SVG}text")}
