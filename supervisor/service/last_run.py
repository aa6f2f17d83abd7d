"""What a start says of the run before it, where that did not end as it was told to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from supervisor.core.states import MessageState
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger

#: Messages that the line names: one of them may be what ended the process.
_NAMED: Final = 10


async def tell_failed_run(registry: Registry) -> None:
    """Say that and why the run before did not end well, and what its handlers had in their hands.

    To be called before those messages are taken over. Where several supervisors share the registry what runs may be
    another's, and is left out.

    Raises:
        RegistryError: the registry cannot be read.
    """
    failed = registry.take_failed_run()
    if failed is None:
        return
    info = failed.info
    handled = [] if registry.replicas.shared else await _handled(registry)
    get_logger("supervisor.service").critical(
        "last_run_failed",
        reason=failed.reason,
        pid=info.pid,
        host=info.host,
        version=info.version or None,
        began=_time(info.started_at),
        last_write=_time(failed.wrote_at),
        **({"handled": handled} if handled else {}),
        **({"stack": failed.stack} if failed.stack else {}),
    )


async def _handled(registry: Registry) -> list[dict[str, Any]]:
    """Messages that handlers had begun and not ended, the newest first."""
    rows = await registry.journal.messages(limit=_NAMED, states=[MessageState.RUNNING])
    handlers = {record.id: record.handler for record in await registry.agents()} if rows else {}
    return [
        {"message": row.id, "agent": row.agent_id, "handler": handlers.get(row.agent_id, ""), "attempt": row.attempts}
        for row in rows
    ]


def _time(seconds: float) -> str | None:
    """A moment, in seconds since the epoch, as logs show it; None where it is not known."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else None
