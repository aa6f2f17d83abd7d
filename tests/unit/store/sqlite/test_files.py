"""Where a registry's file may lie: URLs, folders, file systems, rights; and how a whole file gets its name."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.store.dialect.face import DamagedError
from supervisor.store.sqlite.files import (
    check_file,
    check_place,
    database_path,
    network_file_system,
    open_own,
    orphaned_wal,
    publish,
)


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A list of mounts with a local disk alone."""
    path = tmp_path / "mounts"
    path.write_text("/dev/sda1 / ext4 rw 0 0\n")
    return path


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_a_url_names_a_file(driver: str, tmp_path: Path) -> None:
    assert database_path(f"{driver}:///{tmp_path}/a.db") == tmp_path / "a.db"
    assert database_path(f"{driver}:///a.db") == Path.cwd() / "a.db"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("supervisor.db", "is not a database URL"),
        ("sqlite+aiosqlite:///a.db:port/[", "SUPERVISOR_REGISTRY_URL"),
        ("mysql://root:hunter2@host/db", "has the scheme mysql"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///file:a.db", "must name a file"),
        ("sqlite:///a.db?mode=ro", "must name a file"),
    ],
)
def test_what_names_no_file_is_refused_without_its_password(url: str, said: str) -> None:
    if url.endswith("["):
        assert database_path(url).name == "["
        return
    with pytest.raises(RegistryError, match=said) as caught:
        database_path(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n", "nfs4"),
        ("server:/x / nfs4 rw 0 0\n/dev/sda1 /data ext4 rw 0 0\n", None),
        ("/dev/sda1 /data ext4 rw 0 0\nserver:/x /data cifs rw 0 0\n", "cifs"),
        ("server:/x /data/registry\\040of fuse.sshfs rw 0 0\n", None),
        ("server:/x /database nfs rw 0 0\n", None),
        ("overlay / overlay rw 0 0\nnone /data 9p rw 0 0\n", None),
        ("broken line\n\n", None),
    ],
    ids=["below", "local inside", "mounted over", "beside", "like its name", "containers", "unreadable"],
)
def test_the_innermost_mount_decides(tmp_path: Path, lines: str, kind: str | None) -> None:
    (tmp_path / "mounts").write_text(lines)
    assert network_file_system(Path("/data/registry/a.db"), tmp_path / "mounts") == kind


def test_a_mount_point_may_have_blanks_and_a_list_of_mounts_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("server:/x /my\\040data nfs rw 0 0\n")
    assert network_file_system(Path("/my data/a.db"), tmp_path / "mounts") == "nfs"
    assert network_file_system(Path("/my data/a.db"), tmp_path / "nowhere") is None


def test_a_place_is_refused_before_anything_is_made(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, said in ((tmp_path / "no" / "a.db", "does not exist"), (tmp_path / "folder", "is a folder")):
        with pytest.raises(RegistryError, match=said):
            check_place(path, mounts)
    mounts.write_text("server:/x / nfs rw 0 0\n")
    with pytest.raises(RegistryError, match=r"network file system \(nfs\)"):
        check_place(tmp_path / "a.db", mounts)
    assert not (tmp_path / "a.db").exists()


def test_a_file_is_made_for_its_owner_alone_and_only_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(RegistryError, match="create it with: supervisor db upgrade"):
        check_file(path, create=False)
    check_file(path, create=True)
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (0, 0o600)
    check_file(path, create=False)


def test_a_log_without_its_database_is_damage_and_not_a_place_for_a_new_one(tmp_path: Path) -> None:
    path, wal = tmp_path / "a.db", tmp_path / "a.db-wal"
    wal.touch()
    assert not orphaned_wal(path), "an empty log holds nothing"
    wal.write_bytes(b"rows")
    path.touch()
    with pytest.raises(DamagedError, match="its log is there"):
        check_file(path, create=True)
    path.write_bytes(b"pages")
    assert not orphaned_wal(path)


@pytest.mark.parametrize("name", ["a.db", "a.db-wal", "a.db-shm", "a.db-journal", "a.db.lock"])
@pytest.mark.parametrize("kind", ["symbolic link", "dangling", "hard link", "pipe", "socket", "device", "folder"])
def test_what_is_no_file_of_ours_is_refused_and_nothing_behind_it_is_touched(
    tmp_path: Path, mounts: Path, name: str, kind: str
) -> None:
    ours, victim = tmp_path / name, tmp_path / "victim"
    victim.write_text("theirs")
    match kind:
        case "symbolic link":
            ours.symlink_to(victim)
        case "dangling":
            ours.symlink_to(tmp_path / "nowhere")
        case "hard link":
            ours.hardlink_to(victim)
        case "pipe":
            os.mkfifo(ours)
        case "socket":
            made = socket.socket(socket.AF_UNIX)
            made.bind(str(ours))
            made.close()
        case "device":
            try:
                os.mknod(ours, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError:
                pytest.skip("only root makes devices")
        case "folder":
            ours.mkdir()
    with pytest.raises(RegistryError, match=f"{name} is ") as caught:
        # Whoever opens it for writing is refused as whoever looks at the place.
        open_own(ours, os.O_CREAT | os.O_RDWR)
    assert "\n" not in str(caught.value)
    if name != "a.db.lock":
        with pytest.raises(RegistryError, match=f"{name} is "):
            check_place(tmp_path / "a.db", mounts)
    assert victim.read_text() == "theirs"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_on_the_way_may_be_a_link(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    path = tmp_path / "data" / "a.db"
    check_place(path, mounts)
    check_file(path, create=True)
    os.close(open_own(path, os.O_RDWR))
    check_place(path, mounts)


def test_a_whole_file_gets_its_name_and_never_replaces_another(tmp_path: Path) -> None:
    whole, target = tmp_path / "whole", tmp_path / "target"
    whole.write_text("new")
    publish(whole, target)
    assert whole.samefile(target)
    target.unlink()
    target.write_text("old")
    with pytest.raises(FileExistsError):
        publish(whole, target)
    assert target.read_text() == "old"
    target.unlink()
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        publish(whole, target)
    assert not (tmp_path / "nowhere").exists()
