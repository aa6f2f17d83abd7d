"""The Node gateway as the benchmark sees it: one process, started, told what to do, ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.certificates import Certificates
from tests.benchmarks.line_process import Child, ChildError, clean_environment

GATEWAY = Path(__file__).with_name("gateway")
NAMESPACE = "/ws"
START_SECONDS = 30.0
#: What is added to the time a command may take, for the answer to arrive.
GRACE_SECONDS = 10.0
INSTALL = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")


def install_packages() -> None:
    """Install what ``gateway/package.json`` pins, unless it is there already.

    Raises:
        RuntimeError: Node or npm is missing, or the installation failed.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise RuntimeError(f"the benchmark needs {program}; install Node 18 or newer")
    wanted = pinned_versions()
    if {name: _installed_version(name) for name in wanted} == wanted:
        return
    try:
        # What a benchmark prints is its table.
        subprocess.run(INSTALL, cwd=GATEWAY, check=True, timeout=300, stdout=sys.stderr)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(INSTALL)} in {GATEWAY} failed with exit status {error.returncode}") from None


def node_version() -> str:
    """The version of Node that runs the gateway and the bare Node client."""
    return subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip().lstrip("v")


def pinned_versions() -> dict[str, str]:
    """The npm packages that the benchmark uses, with their exact versions."""
    pinned: dict[str, str] = json.loads((GATEWAY / "package.json").read_text())["dependencies"]
    return pinned


def _installed_version(name: str) -> str | None:
    try:
        version: str = json.loads((GATEWAY / "node_modules" / name / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        return None
    return version


class Gateway(Child):
    """A running gateway.

    Args:
        work: a directory for its log.
        ping_seconds: how long it waits between two pings of a connection, in seconds.
        certificates: those it serves TLS with; plain when left out.
    """

    def __init__(self, work: Path, ping_seconds: int, certificates: Certificates | None = None) -> None:
        command = ["node", str(GATEWAY / "gateway.js"), str(ping_seconds)]
        if certificates is not None:
            command += [str(certificates.key), str(certificates.certificate)]
        super().__init__(command, work / "gateway.log", env=clean_environment())
        self.certificates = certificates
        self._last_id = 0
        port = self.hear_first(START_SECONDS)["port"]
        secure = "s" if certificates is not None else ""
        self.api_url = f"http{secure}://127.0.0.1:{port}"
        self.ws_url = f"ws{secure}://127.0.0.1:{port}{NAMESPACE}"

    def ask(self, command: str, timeout_seconds: float = 30.0, **arguments: Any) -> dict[str, Any]:
        """Have the gateway do one thing and wait for its answer.

        Raises:
            ChildError: it could not, or not within ``timeout_seconds``.
        """
        self._last_id += 1
        request = {"id": self._last_id, "command": command, "timeoutMs": round(timeout_seconds * 1000)}
        self.tell({**request, **arguments})
        answer = self.hear(timeout_seconds + GRACE_SECONDS)
        if answer["id"] != self._last_id:
            raise ChildError(f"gateway: an answer to {answer['id']} instead of {self._last_id}")
        if "error" in answer:
            raise ChildError(f"gateway: {command}: {answer['error']}")
        return answer

    def wait_online(self, count: int, timeout_seconds: float) -> int:
        """Wait until ``count`` agents have read their own presence; the monotonic time of that, in nanoseconds."""
        return int(self.ask("wait-online", timeout_seconds, count=count)["atNs"])

    def barrier(self, timeout_seconds: float) -> int:
        """Wait until every client has read all that was sent; the monotonic time of that, in nanoseconds."""
        return int(self.ask("barrier", timeout_seconds)["atNs"])

    def round_trips(self, agents: Sequence[str], trips: int, in_flight: int, timeout_seconds: float) -> dict[str, Any]:
        """Send ``trips`` messages in all, at most ``in_flight`` unanswered per agent, and wait for the replies."""
        wanted = {"agents": list(agents), "trips": trips, "inFlight": in_flight}
        return self.ask("round-trips", timeout_seconds, **wanted)

    def round_trips_at(
        self, agents: Sequence[str], trips: int, per_second: float, timeout_seconds: float
    ) -> dict[str, Any]:
        """Send ``trips`` messages in all at this rate, whatever is unanswered, and wait for the replies."""
        wanted = {"agents": list(agents), "trips": trips, "inFlight": 0, "perSecond": per_second}
        return self.ask("round-trips", timeout_seconds, **wanted)
