"""A container without an engine: namespaces of Linux, a root of its own that is read-only, and a user without rights.

The host's /usr and /etc stand in for the base image; nothing of the source tree is in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Brings the loopback interface up, then holds the network namespace for as long as somebody holds its input.
_HOLD = """
import fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
print("up", flush=True)
sys.stdin.read()
"""
_TOOLS = ("unshare", "nsenter", "chroot", "setpriv", "mount")
#: What programs look for in /etc.
_ETC = ("passwd", "group", "nsswitch.conf", "resolv.conf", "ld.so.cache", "localtime", "alternatives", "ssl", "pki")
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")


def absent_tools() -> list[str]:
    """The programs that such a room needs and this machine does not have."""
    return [tool for tool in _TOOLS if shutil.which(tool) is None]


def missing() -> str:
    """Why there can be no such room on this machine; empty when there can."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root, to make namespaces and to become another user"
    if absent := absent_tools():
        return f"{', '.join(absent)} missing: apt-get install util-linux coreutils mount"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "mount", "-t", "tmpfs", "tmpfs", "/tmp"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces are refused: {tried.stderr.strip()}" if tried.returncode else ""


class Room:
    """One root directory and one network of its own; use it as a context manager.

    Args:
        folder: an empty folder; holds the root and the volumes.
        python: the interpreter whose installation is in it.
        hosts: names that lead to its loopback address.
    """

    def __init__(self, folder: Path, python: Path, hosts: Sequence[str]) -> None:
        self.root = folder / "root"
        self._folder = folder
        self._prefix = python.resolve().parents[1]
        self._binds: list[tuple[Path, str]] = []
        self._network: subprocess.Popen[str] | None = None
        self._lay_out(hosts)

    def _lay_out(self, hosts: Sequence[str]) -> None:
        (self.root / "app").mkdir(parents=True)
        for name in ("tmp", "proc", "dev", "etc", "opt"):
            (self.root / name).mkdir()
        for name in _SYSTEM:
            host = Path("/") / name
            if host.is_symlink():
                (self.root / name).symlink_to(host.readlink())
            elif host.is_dir():
                (self.root / name).mkdir()
                self.bind(host, f"/{name}")
        if not self._prefix.is_relative_to("/usr"):
            self.bind(self._prefix, str(self._prefix))
        for name in _ETC:
            host = Path("/etc") / name
            if host.is_dir():
                self.bind(host, f"/etc/{name}")
            elif host.is_file():
                shutil.copy(host, self.root / "etc" / name)
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {' '.join(hosts)}\n")

    def bind(self, source: Path, target: str) -> None:
        """Have a file or folder of the machine there from now on, only to read."""
        self._place(source, target)
        self._binds.append((source, target))

    def volume(self, name: str, owner: int) -> Path:
        """The folder of a named volume; a new one is its user's."""
        path = self._folder / f"volume-{name}"
        if not path.exists():
            path.mkdir(mode=0o700)
            os.chown(path, owner, owner)
        return path

    def __enter__(self) -> Room:
        """Open the network, in which nothing but the room's own is."""
        # Debian's python3 or ours: this code needs the standard library alone.
        self._network = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._network.stdout is not None
        assert self._network.stdout.readline() == "up\n"
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        if self._network is not None:
            self._network.communicate()
            self._network = None

    def command(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str],
        user: str | None = None,
        workdir: str = "/",
        mounts: Sequence[tuple[Path, str, bool]] = (),
    ) -> list[str]:
        """What to run for ``args`` to run inside; it becomes them, so that signals reach them.

        Args:
            user: ``uid:gid``, without capabilities and ways to gain some; None is root, and the root can be written to.
            mounts: (source, target, whether to read only).
        """
        steps = [f"mount --bind {self.root} {self.root}"]
        steps += [self._mount(source, target, read_only=True) for source, target in self._binds]
        steps += [f"mount --rbind /proc {self.root}/proc", f"mount --rbind /dev {self.root}/dev"]
        steps += [f"mount -t tmpfs -o mode=1777 tmpfs {self.root}/tmp"]
        for source, target, _ in mounts:
            self._place(source, target)
        steps += [self._mount(source, target, read_only=read_only) for source, target, read_only in mounts]
        if user is not None:
            steps.append(f"mount -o remount,bind,ro {self.root}")
            uid, _, gid = user.partition(":")
            args = (
                *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"),
                *("--bounding-set=-all", "--inh-caps=-all", "--", *args),
            )
        inside = shlex.join(["env", "-i", "-C", workdir, *(f"{key}={value}" for key, value in env.items()), *args])
        steps.append(f"exec chroot {self.root} {inside}")
        net = [] if self._network is None else ["nsenter", f"--net=/proc/{self._network.pid}/ns/net", "--"]
        return [*net, "unshare", "--mount", "--", "sh", "-ec", "\n".join(steps)]

    def _mount(self, source: Path, target: str, *, read_only: bool) -> str:
        place = shlex.quote(f"{self.root}{target}")
        step = f"mount --bind {shlex.quote(str(source))} {place}"
        return f"{step}\nmount -o remount,bind,ro {place}" if read_only else step

    def _place(self, source: Path, target: str) -> None:
        """Make what a mount lies on."""
        place = self.root / target.lstrip("/")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir() if source.is_dir() else place.touch()
