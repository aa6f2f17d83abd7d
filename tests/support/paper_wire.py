"""A wire made of paper: what a test says comes in, what goes out is kept. No socket, no library."""

from __future__ import annotations

from supervisor.net import Session
from supervisor.platform.transport.wires import Dial, Listener, UpgradeError

OPEN = '0{"sid":"engine","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'


class PaperWire:
    """See :class:`supervisor.platform.transport.wires.Wire`.

    Attributes:
        frames: what comes in while it opens.
        trouble: what comes of it instead.
        written: every frame that went out.
        buffered_bytes: what the network has not taken, as the test wishes.
    """

    frames: tuple[str, ...] = (OPEN, '40/ws,{"sid":"abc"}')
    trouble: UpgradeError | None = None

    def __init__(self, session: Session | None, dial: Dial, listener: Listener) -> None:
        self.dial = dial
        self.listener = listener
        self.written: list[str] = []
        self.buffered_bytes = 0
        self.hung_up = self.aborted = False

    async def open(self) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.listener.upgraded()
        self.bring(*self.frames)

    def bring(self, *frames: str) -> None:
        """Frames of the platform."""
        for frame in frames:
            answer = self.listener.receive(frame)
            if answer is not None:
                self.write(answer)

    def write(self, frame: bytes) -> bool:
        if not self.hung_up:
            self.written.append(frame.decode())
        return not self.hung_up

    def hang_up(self) -> None:
        self.hung_up = True

    def abort(self) -> None:
        self.aborted = self.hung_up = True

    async def settle(self, timeout: float) -> None:
        """Nothing runs."""
