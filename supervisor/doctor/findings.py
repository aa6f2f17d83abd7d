"""What a check found, and what all of them come to. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from supervisor.core.errors import ConfigurationError, ConnectError, PlatformError, Verdict


class Level(StrEnum):
    """How it is: a warning is worth a look and changes no exit code."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


class Trouble(IntEnum):
    """Whose it is to mend, as the command's exit code."""

    CONFIGURATION = 3
    REFUSED = 4
    PLATFORM = 5
    DEAF = 6
    UNANSWERED = 7


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        check: what was looked at, in a word or two.
        text: what was found; holds no secret and no token.
        advice: what to change; empty where there is nothing to.
        agent: whom it concerns; empty for the deployment.
        trouble: set for a failure.
    """

    check: str
    level: Level
    text: str
    advice: str = ""
    agent: str = ""
    trouble: Trouble | None = None


#: Takes each finding as it is made.
Report = Callable[[Finding], None]


def failed(check: str, text: str, advice: str, trouble: Trouble, agent: str = "") -> Finding:
    """A failure."""
    return Finding(check, Level.FAIL, text, advice, agent, trouble)


def misconfigured(check: str, error: ConfigurationError, advice: str, agent: str = "") -> Finding:
    """A setting is wrong."""
    return failed(check, str(error), advice, Trouble.CONFIGURATION, agent)


def from_the_next_start(report: Report) -> Report:
    """Reports as ``report`` does, and says of each variable to be changed when it counts: a supervisor runs."""

    def told(finding: Finding) -> None:
        if "SUPERVISOR_" in finding.advice and "restart" not in finding.advice:
            finding = replace(finding, advice=f"{finding.advice}; a variable counts once the supervisor is restarted")
        report(finding)

    return told


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when nothing failed; else the trouble to mend first: what is ours, then what others have to do."""
    return min((int(finding.trouble) for finding in findings if finding.trouble is not None), default=0)


def trouble_of(error: PlatformError) -> Trouble:
    """Whose trouble a failure of the platform is.

    The token is moments old: a refusal of it is the platform's no, and being put out without a word its illness
    (docs/protocol.md#3-acceptance).
    """
    if isinstance(error, ConnectError):
        if error.deaf:
            return Trouble.DEAF
        if error.kicked:
            return Trouble.PLATFORM
        if error.no_engine:
            return Trouble.CONFIGURATION
    if error.verdict is Verdict.FAULT:
        return Trouble.CONFIGURATION
    return Trouble.PLATFORM if error.verdict is Verdict.RETRY else Trouble.REFUSED
