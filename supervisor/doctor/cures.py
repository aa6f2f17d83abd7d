"""What to do about an agent that does not run, true for where that is kept and for when a change counts. No I/O."""

from __future__ import annotations

from typing import Final

from supervisor.core.errors import HandlerError, HandlerNotFoundError
from supervisor.core.records import AgentRecord
from supervisor.fleet.recovery import FAULT_RECHECK_SECONDS

ELSEWHERE: Final = "mend SUPERVISOR_API_URL or the agent's setting api_url"
REFUSED: Final = "look at the agent's page on the platform (suspended, deleted?), or mend its secret: "


def handler_cure(error: HandlerError, choose: str) -> str:
    """What to do about a handler that does not load, by what keeps it from that.

    Args:
        choose: the command that names another one.
    """
    if isinstance(error, HandlerNotFoundError):
        return f"choose one that is there: {choose}"
    if isinstance(error.__cause__, ImportError):
        return f"install what it needs where the supervisor runs, or choose another: {choose}"
    return f"mend its code, or choose another: {choose}"


#: What gives a row's field a value that can be used; whatever broke it there is replaced.
_REPLACES: Final = {
    "settings": "--set KEY=VALUE",
    "labels": "--label KEY=VALUE",
    "handler": "--handler HANDLER",
    "name": "--name NAME",
    "secret": "--secret-env VAR",
}
_FIRST_WORDS: Final = 20


def row_cure(record: AgentRecord, reason: str) -> str:
    """What to do about a row that cannot be used as it stands.

    Args:
        reason: what is wrong with it; the field stands in its first words.
    """
    field = next((name for name in _REPLACES if name in reason[:_FIRST_WORDS].lower()), "settings")
    update = f"supervisor agents update {record.id} {_REPLACES[field]}"
    back = f"supervisor agents rollback {record.id} --to VERSION (supervisor agents history {record.id} lists them)"
    return f"go back to what it was: {back}; or give it {field} anew: {update}"


def secret_cure(record: AgentRecord) -> str:
    """How the secret of an agent is changed, by where it is kept."""
    kind, _, place = record.secret.partition(":")
    if kind == "env":
        return f"change {place} in the supervisor's environment and restart it"
    if kind == "file":
        return f"write a new {place}, then supervisor agents reload {record.id}"
    return f"supervisor agents update {record.id} --secret-stdin"


def fault_cure(reason: str, record: AgentRecord) -> str:
    """What to do about an agent that its supervisor cannot run.

    Rows and files are followed, code is read at a reload, and a variable counts from the next start.

    Args:
        reason: what the supervisor says of it.
    """
    kind, _, place = record.secret.partition(":")
    if "SUPERVISOR_" in reason or (kind == "env" and place in reason):
        return "mend that where the supervisor runs, and restart it"
    if kind == "file" and place in reason:
        return f"mend that file; it is looked at again within {FAULT_RECHECK_SECONDS:.0f} s"
    if "which is not installed" in reason:
        return f"install it where the supervisor runs, then: supervisor agents reload {record.id}"
    if reason.startswith(("Handler ", "on_start ", "There is no module ")):
        return f"mend its code, then: supervisor agents reload {record.id}"
    return f"{row_cure(record, reason)}; it follows at once"


def is_elsewhere(reason: str) -> bool:
    """Whether it was no token endpoint that refused: its router or somebody else says that there is none."""
    return "is API_URL right?" in reason or reason.startswith("404 Cannot ")
