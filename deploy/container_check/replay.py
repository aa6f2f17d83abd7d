"""Plays compose.yaml in a room: the same commands, environments, mounts, orders and health checks, as processes."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.container_check.dockerfile import Stage
from deploy.container_check.room import Room

#: A start on a busy machine.
SECONDS = 90.0
_DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+)s)?\Z")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ReplayError(Exception):
    """Something did not come about; the message says what, with the last that was logged."""


class Replay:
    """The services of one compose file; use it as a context manager, which ends what still runs.

    Args:
        root: the source tree, for what is mounted from it.
        image: what the Dockerfile's last stage says.
    """

    def __init__(self, root: Path, compose: dict[str, Any], image: Stage, room: Room) -> None:
        self._root = root
        self._services: dict[str, dict[str, Any]] = compose["services"]
        self._image = image
        self._room = room
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._logs = room.root.parent

    def __enter__(self) -> Replay:
        """Nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what runs."""
        for process in self._running.values():
            process.kill()
            process.wait()

    def up(self, name: str) -> None:
        """Start a service once those that it waits for are as it wants them; a one-shot is run to its end.

        Raises:
            ReplayError: it, or one of them, does not come up.
        """
        for other, wish in self._services[name].get("depends_on", {}).items():
            if other not in self._running:
                self.up(other)
            if wish["condition"] == "service_completed_successfully":
                self._completed(other)
            else:
                self.healthy(other)
        with self._log(name).open("w") as log:
            self._running[name] = subprocess.Popen(
                self._command(name, self._program(name)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def _completed(self, name: str) -> None:
        if self._running[name].wait(SECONDS):
            raise ReplayError(f"{name} failed: {self._last(name)}")

    def healthy(self, name: str) -> None:
        """Wait until a service's own health check passes.

        Raises:
            ReplayError: the service ended, or it never did.
        """
        check = self._services[name].get("healthcheck", {}).get("test", ["CMD", *self._image.health])[1:]

        def passes() -> bool:
            if self._running[name].poll() is not None:
                raise ReplayError(f"{name} ended with {self._running[name].returncode}: {self._last(name)}")
            return self.inside(name, check).returncode == 0

        self.until(passes, f"{name} to be healthy")

    def inside(self, name: str, args: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as ``docker compose exec`` would."""
        return subprocess.run(self._command(name, args), capture_output=True, text=True, check=False, timeout=SECONDS)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """Wait until ``condition`` gives something true, and return it.

        Raises:
            ReplayError: it does not.
        """
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise ReplayError(f"waited {seconds:.0f} s for {what}")
            time.sleep(0.3)
        return found

    def stop(self, name: str) -> int:
        """Stop a service as Compose does, and give its exit code.

        Raises:
            ReplayError: it had to be killed.
        """
        process = self._running.pop(name)
        process.send_signal(signal.Signals[self._image.stop_signal])
        grace = str(self._services[name].get("stop_grace_period", "10s"))
        found = _DURATION.match(grace)
        if found is None:
            raise ReplayError(f"{name}: {grace} is no duration that this check reads, such as 1m15s")
        try:
            return process.wait(60 * int(found[1] or 0) + int(found[2] or 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ReplayError(f"{name} still ran {grace} after the signal") from None

    def _program(self, name: str) -> list[str]:
        service = self._services[name]
        if "build" not in service:
            # Prometheus' image has it as its entry point.
            return [name, *map(str, service.get("command", []))]
        entrypoint = service.get("entrypoint", self._image.entrypoint)
        command = service.get("command", self._image.command if "entrypoint" not in service else [])
        return [*map(str, entrypoint), *map(str, command)]

    def _command(self, name: str, args: list[str]) -> list[str]:
        service = self._services[name]
        ours = "build" in service
        user = self._image.user if ours else "65534:65534"
        env = {"PATH": _PATH}
        if ours:
            env |= {key: value.replace("$PATH", _PATH) for key, value in self._image.env.items()}
        env |= {key: str(value) for key, value in service.get("environment", {}).items()}
        mounts = []
        for mount in service.get("volumes", []):
            source, target, *options = mount.split(":")
            path = self._root / source if source.startswith(".") else self._volume(source, user)
            mounts.append((path.resolve(), target, options == ["ro"]))
        return self._room.command(args, env=env, user=user, workdir=self._image.workdir if ours else "/", mounts=mounts)

    def _volume(self, name: str, user: str) -> Path:
        return self._room.volume(name, int(user.partition(":")[0]))

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _last(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()
        return lines[-1] if lines else "without a word"
