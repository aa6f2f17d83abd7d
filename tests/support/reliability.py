"""What a fault test measured, and where the report finds it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

#: A folder; each finished case leaves one JSON file there, from which ``tests/reliability/report`` makes its table.
REPORT_VARIABLE = "RELIABILITY_REPORT"


@dataclass
class Case:
    """The figures of one case, counted while its test runs.

    Args:
        name: ``R9``, or ``R9 kill`` where a case has several tests.
        rounds: how often the fault was played through.
        faults: how many faults were injected.
        messages: how many messages people sent.
        lost: messages without an answer in the end.
        doubled: answers that came more often than once.
        out_of_order: conversations in which answers came in another order than the messages.
        slowest_recovery: the longest time from the end of a fault to all being well, in seconds.
    """

    name: str
    rounds: int = 1
    faults: int = 0
    messages: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    slowest_recovery: float = 0.0

    def recovered(self, seconds: float) -> None:
        """Note how long a recovery took."""
        self.slowest_recovery = max(self.slowest_recovery, seconds)

    def answers(self, sent: list[str], answered: list[str]) -> None:
        """Compare what was asked in a conversation with what was answered, by the texts, in order; count the faults."""
        self.messages += len(sent)
        first = list(dict.fromkeys(text for text in answered if text in sent))
        self.out_of_order += first != [text for text in sent if text in first]
        for text in sent:
            count = answered.count(text)
            self.lost += count == 0
            self.doubled += max(0, count - 1)

    def write(self, outcome: str) -> None:
        """Leave the figures for the report, where one is being made."""
        folder = os.environ.get(REPORT_VARIABLE)
        if folder:
            path = Path(folder) / f"{self.name.replace(' ', '-').replace('/', '-')}-{os.getpid()}.json"
            path.write_text(json.dumps(asdict(self) | {"outcome": outcome}))
