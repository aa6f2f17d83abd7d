"""Copies in a folder: named after the time, the newest kept, all else left alone."""

from __future__ import annotations

from pathlib import Path

from supervisor.management import backups

#: 2026-12-01 00:15:30 UTC.
NOW = 1_796_084_130.9


def test_a_copy_is_named_after_its_time_in_a_folder_that_nobody_else_reads(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "backups"
    assert backups.fresh_name(folder, NOW) == folder / "supervisor-20261201T001530Z.db"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert backups.fresh_name(folder, NOW + 1).name > backups.fresh_name(folder, NOW).name


def test_the_newest_are_kept_and_so_is_what_is_no_copy(tmp_path: Path) -> None:
    for second in range(5):
        backups.fresh_name(tmp_path, NOW + second).touch()
    others = ("supervisor.db", "supervisor-backup.db", "supervisor-20261201T001530Z.db-wal", "notes")
    for name in others:
        (tmp_path / name).touch()
    gone = backups.keep_newest(tmp_path, 2)
    assert sorted(path.name for path in gone) == [f"supervisor-20261201T00153{n}Z.db" for n in range(3)]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, "supervisor-20261201T001533Z.db", "supervisor-20261201T001534Z.db"}
    assert backups.keep_newest(tmp_path, 2) == []
