"""Tells the service manager how it goes: systemd's notification protocol, sd_notify(3), over a datagram socket.

Without ``NOTIFY_SOCKET`` in the environment nothing is sent, so it costs nothing elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Mapping

from supervisor.telemetry.logs import get_logger

#: How often the status line is looked at; it is sent when it has changed.
STATUS_SECONDS = 5.0
#: The watchdog hears of us this often within the time that it allows.
PINGS = 3
#: Stands for a status line that could not be made.
UNREADABLE = "running; its state cannot be read, see the log"
#: What of a longer status line is sent.
STATUS_CHARS = 300
_MICROSECONDS = re.compile(r"[0-9]{1,18}\Z")


class ServiceManager:
    """Who started us and wants to hear of us; perhaps nobody does.

    Args:
        environ: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` stand.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._failing = False
        self._log = get_logger("supervisor.sd_notify")
        self.watchdog_seconds = _watchdog_seconds(environ)
        if self._address and self._address[0] not in "/@":
            self._log.warning("notify_socket_unknown", reason="NOTIFY_SOCKET is neither a path nor an abstract name")
            self._address = ""

    @property
    def listens(self) -> bool:
        """Whether anybody wants to hear of us."""
        return bool(self._address)

    def ready(self) -> None:
        """The service has started."""
        self._send("READY=1")

    def stopping(self, seconds: float) -> None:
        """The service stops, which may take ``seconds``: longer than the unit allows, if need be."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    async def keep_posted(self, status: Callable[[], str]) -> None:
        """Send what ``status`` says whenever it changes, and the watchdog's pings, until cancelled.

        The pings come from the event loop: when that stands still they stop, and we are started anew.
        """
        if not self.listens:
            return
        pause = STATUS_SECONDS
        if self.watchdog_seconds is not None:
            pause = min(pause, self.watchdog_seconds / PINGS)
        said = ""
        while True:
            pings = () if self.watchdog_seconds is None else ("WATCHDOG=1",)
            line = self._line(status, said)
            self._send(*pings, *(() if line == said else (f"STATUS={line}",)))
            said = line
            await asyncio.sleep(pause)

    def _line(self, status: Callable[[], str], said: str) -> str:
        """The status line. That it cannot be made is no reason to end the pings, and with them the process."""
        try:
            return " ".join(status().split())[:STATUS_CHARS]
        except Exception:  # noqa: BLE001  whatever it is, it is in the log
            if said != UNREADABLE:
                self._log.exception("status_line_failed")
            return UNREADABLE

    def _send(self, *lines: str) -> None:
        """Send one datagram; a manager that does not take it is told of once, and tried again."""
        if not self._address or not lines:
            return
        name = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            if not self._failing:
                self._log.warning("service_manager_not_told", reason=error.strerror or str(error))
            self._failing = True
        else:
            self._failing = False


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How long the watchdog waits for a ping; None where there is none, or where it is another process's."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 or None if _MICROSECONDS.match(text) else None
