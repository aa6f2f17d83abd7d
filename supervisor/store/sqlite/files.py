"""Where a registry's files may lie, and how one is made, opened and published.

What stands at a path of ours and is no file of ours is refused and left alone: a link would have us write into what it
points to. A folder on the way to it may be a link.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote_from_bytes, unquote

from supervisor.core.errors import RegistryError, RegistryNotFoundError
from supervisor.store.sqlite.errors import damaged

#: Scheme, whatever stands for a server, file, options.
_URL: Final = re.compile(r"(?P<scheme>[\w+]+)://[^/?]*(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?")
#: Between the names of a registry and of its copy that was saved when its file was lost, before the time.
RESCUED: Final = ".rescued-"
#: What SQLite puts beside a database.
BESIDE: Final = ("-wal", "-shm", "-journal")
#: Where Linux lists what is mounted.
MOUNTS: Final = Path("/proc/mounts")
# WAL's shared memory does not work across machines (https://sqlite.org/wal.html). 9p and overlay are left alone:
# containers and sandboxes put local disks behind them.
_NETWORK: Final = ("nfs", "cifs", "smb", "fuse.sshfs", "ceph", "fuse.ceph", "glusterfs", "fuse.glusterfs")


def database_path(url: str) -> Path:
    """The file that a registry's URL names.

    Raises:
        RegistryError: it is no URL, not SQLite's, or names no file.
    """
    parsed = _URL.match(url)
    if parsed is None:
        raise RegistryError(
            "SUPERVISOR_REGISTRY_URL is not a database URL; it looks like sqlite+aiosqlite:///supervisor.db"
        )
    if parsed["scheme"] not in ("sqlite", "sqlite+aiosqlite"):
        raise RegistryError(
            f"SUPERVISOR_REGISTRY_URL has the scheme {parsed['scheme']}, which is not supported; "
            "use sqlite+aiosqlite:///path/to/supervisor.db"
        )
    database = unquote(parsed["database"] or "")
    if not database or database == ":memory:" or database.startswith("file:") or parse_qsl(parsed["query"] or ""):
        raise RegistryError(
            "SUPERVISOR_REGISTRY_URL must name a file and nothing else, such as sqlite+aiosqlite:///path/to/supervisor.db"
        )
    return Path(database).absolute()


def check_place(path: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a file that cannot be a registry, before anything is opened or made.

    Raises:
        RegistryError: its folder is missing, it lies on a network file system, its rights forbid its use, or it is a
            link or no regular file.
    """
    folder = path.parent
    if not folder.is_dir():
        raise RegistryError(f"The registry's folder {folder} does not exist; create it, or set SUPERVISOR_REGISTRY_URL")
    kind = network_file_system(path.resolve(), mounts)
    if kind is not None:
        raise RegistryError(
            f"The registry {path} lies on a network file system ({kind}), where SQLite loses data; use a local disk"
        )
    if path.is_dir() and not path.is_symlink():
        raise RegistryError(f"The registry {path} is a folder; set SUPERVISOR_REGISTRY_URL to a file")
    for name in ("", *BESIDE):
        require_own(path.with_name(f"{path.name}{name}"))
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise RegistryError(f"The registry {path} cannot be read and written by this user; mend its rights")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RegistryError(f"The registry's folder {folder} cannot be written by this user; SQLite needs to")


def require_own(path: Path) -> None:
    """Refuse what stands at a path of ours and is no file of ours; nothing there is well.

    Raises:
        RegistryError: it is a link, symbolic or hard, a folder, or a device, pipe or socket.
    """
    try:
        found = path.lstat()
    except OSError:
        return
    refused = _strange(path, found)
    if refused is not None:
        raise refused


def _strange(path: Path, found: os.stat_result) -> RegistryError | None:
    """Why what was found at a path of ours is not used; None for a file of ours."""
    if stat.S_ISLNK(found.st_mode):
        return RegistryError(
            f"{path} is a symbolic link, which is not followed; name the file itself, or remove the link "
            "(a folder on the way to it may be one)"
        )
    if not stat.S_ISREG(found.st_mode):
        return RegistryError(f"{path} is no regular file and is not used; move it away")
    if found.st_nlink > 1:
        return RegistryError(
            f"{path} is one of {found.st_nlink} hard links to a file, which is not written to: what has two names is "
            "held twice; remove the other names, or put a copy in its place"
        )
    return None


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file of ours; its descriptor.

    Args:
        flags: as of :func:`os.open`. Nothing is truncated.
        mode: of a file that is made.

    Raises:
        RegistryError: it is a link or no regular file; what is behind it was not touched.
        OSError: it cannot be opened.
    """
    require_own(path)
    try:
        # What comes there between the two looks is not followed, and a pipe not waited for.
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            require_own(path)
        raise
    refused = _strange(path, os.fstat(file))
    if refused is not None:
        os.close(file)
        raise refused
    return file


def network_file_system(path: Path, mounts: Path) -> str | None:
    """The type of the network file system that ``path`` lies on, or None; None too where ``mounts`` is missing."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mounted = Path(_unescape(fields[1]))
        # A later line of the same mount point hides the earlier one.
        if path.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), fields[2]
    return kind if kind.startswith(_NETWORK) else None


def _unescape(field: str) -> str:
    for code, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, plain)
    return field


def address(path: Path, mode: str) -> str:
    """A file as SQLite's URI (https://sqlite.org/uri.html).

    Args:
        mode: ``rw`` or ``ro``; neither makes a file where there is none.
    """
    return f"file:{quote_from_bytes(os.fsencode(path))}?mode={mode}"


def rescued(path: Path) -> list[Path]:
    """The copies of a registry that were saved when its file was lost beneath a supervisor, oldest first."""
    try:
        return sorted(path.parent.glob(f"{glob.escape(path.name)}{RESCUED}*"))
    except OSError:
        return []


def orphaned_wal(path: Path) -> bool:
    """Whether a write-ahead log with committed rows in it lies beside a database that is missing or empty.

    SQLite would delete it. A database that is being made has its first page before it has a log.
    """
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0 and not (path.exists() and path.stat().st_size > 0)


def create_file(path: Path) -> None:
    """Make an empty file that only its owner can read, because it will hold people's messages."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def check_file(path: Path, *, create: bool) -> None:
    """Refuse what cannot be a registry in a place that can hold one; make an empty file where ``create`` says so.

    Raises:
        RegistryError: one line says why and what to do.
    """
    missing = not (path.exists() and path.stat().st_size > 0)
    if missing and (saved := rescued(path)):
        raise RegistryError(
            f"There is no registry at {path}, and {saved[-1]} holds what was saved when it was lost; put that in its "
            "place, without the files -wal and -shm of the lost one, or move it away to begin anew"
        )
    if orphaned_wal(path):
        raise damaged(path, "it is missing or empty, and its log is there")
    if path.exists():
        return
    if not create:
        raise not_found(path)
    try:
        create_file(path)
    except FileExistsError:
        raise exists(path) from None
    except OSError as error:
        raise RegistryError(f"The file {path} cannot be created: {error.strerror}") from None


def not_found(path: Path) -> RegistryNotFoundError:
    """The line for a registry that is not there."""
    return RegistryNotFoundError(
        f"There is no registry at {path}; if it is elsewhere, go there or set SUPERVISOR_REGISTRY_URL, else create "
        "it with: supervisor db upgrade, or with its first agent: supervisor agents add"
    )


def publish(whole: Path, target: Path) -> None:
    """Give a whole file its name.

    Raises:
        FileExistsError: there is a file of that name; it stays.
    """
    try:
        # Unlike a renaming it never replaces a file.
        target.hardlink_to(whole)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        if os.path.lexists(target):
            raise FileExistsError from None
        whole.rename(target)


def exists(path: Path) -> RegistryError:
    """The line for a file that is in the way."""
    return RegistryError(f"The file {path} exists already; name another")
