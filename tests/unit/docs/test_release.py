"""A release is of one version wherever that stands, and one command makes the next."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from docs.release import PLACES, ROOT, cut, versions
from supervisor import __version__


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (*PLACES, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def headings(root: Path) -> list[tuple[str, str]]:
    """The changelog's versions with their dates, the newest first."""
    text = (root / "CHANGELOG.md").read_text()
    return re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.MULTILINE)


def test_package_image_and_chart_are_of_the_version_that_was_cut_last() -> None:
    found = list(versions())
    assert [name for name, _ in found] == [*list(PLACES)[:-1], *2 * [list(PLACES)[-1]]]
    assert {version for _, version in found} == {__version__}
    first, *cut_before = headings(ROOT)
    assert first == ("Unreleased", "")
    assert cut_before[0][0] == __version__
    assert all(date for _, date in cut_before)


def test_a_release_is_written_wherever_its_version_stands(copy: Path) -> None:
    before = len(list(versions(copy)))
    cut("7.8.9", "2030-01-31", copy)
    assert [version for _, version in versions(copy)] == ["7.8.9"] * before
    assert headings(copy)[:3] == [("Unreleased", ""), ("7.8.9", "2030-01-31"), headings(ROOT)[1]]
    chart = (copy / "helm/aiwm-supervisor/Chart.yaml").read_text()
    assert 'version: 7.8.9\nappVersion: "7.8.9"\n' in chart
    for name in PLACES:
        assert (copy / name).read_text().replace("7.8.9", __version__) == (ROOT / name).read_text()


@pytest.mark.parametrize("version", ["0.2", "v1.2.3", "1.2.3rc1", __version__])
def test_what_is_no_version_or_was_cut_before_changes_nothing(copy: Path, version: str) -> None:
    with pytest.raises(ValueError, match=r"is no version such as|has .* already"):
        cut(version, "2030-01-31", copy)
    assert all((copy / name).read_text() == (ROOT / name).read_text() for name in (*PLACES, "CHANGELOG.md"))
