"""How messages are shown to people: one a line, or one with everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from supervisor.cli.output import NOTHING, duration, plain, stdout_console
from supervisor.core.states import MessageState
from supervisor.core.status import MessageDetails, MessageSummary, ReplySummary
from supervisor.protocol.text import clean_text

#: What ``show`` prints of a content unless all of it is asked for.
_SHOWN_CHARS: Final = 2_000
_LABEL_CHARS: Final = 13
_TITLES: Final = ("NUMBER", "AGENT", "NAME", "CONVERSATION", "STATE", "AGE", "ATTEMPTS", "FROM", "SAID")
_FIGURES: Final = frozenset({"NUMBER", "ATTEMPTS"})
#: Where the screen is too narrow: what else tells least. A name says more than an id, where there is one.
_DROPPED_FIRST: Final = ("ATTEMPTS", "CONVERSATION", "FROM", "AGENT", "AGE", "NAME", "SAID")
_GAP, _LEAST_REASON, _NAME_CHARS, _PREVIEW_CHARS = 2, 16, 28, 40
_STYLES: Final = {
    MessageState.DEAD: "bold red",
    MessageState.RETRYABLE: "yellow",
    MessageState.RUNNING: "cyan",
    MessageState.DONE: "green",
    MessageState.CANCELLED: "dim",
}


def print_list(messages: Sequence[MessageSummary], names: Mapping[str, str], now: float) -> None:
    """A line each, in columns that fit the screen.

    Args:
        names: of agents, by their ids; those that are registered no more are left out.
        now: seconds since the epoch.
    """
    rows = [_row(message, names, now) for message in messages]
    widths = {title: max(len(title), *(row[title].cell_len for row in rows)) for title in _TITLES}
    console = stdout_console()
    shown = list(_TITLES)
    for title in _DROPPED_FIRST:
        if sum(widths[one] + _GAP for one in shown) + _LEAST_REASON > console.width:
            shown.remove(title)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in shown:
        table.add_column(title, justify="right" if title in _FIGURES else "left", no_wrap=True, overflow="ellipsis")
    table.add_column("REASON", no_wrap=True, overflow="ellipsis", ratio=1, min_width=16)
    for row in rows:
        table.add_row(*(row[title] for title in (*shown, "REASON")))
    console.print(table)


def _row(message: MessageSummary, names: Mapping[str, str], now: float) -> dict[str, Text]:
    said = plain(message.content)
    cut = len(said) > _PREVIEW_CHARS or message.content_chars > len(message.content)
    return {
        "NUMBER": Text(str(message.id)),
        "AGENT": Text(plain(message.agent_id)),
        "NAME": Text(plain(names.get(message.agent_id, "(removed)"))[:_NAME_CHARS] or NOTHING),
        "CONVERSATION": Text(plain(message.conversation_id)),
        "STATE": Text(message.state, style=_STYLES.get(message.state, "")),
        "AGE": Text(duration(now - message.received_at)),
        "ATTEMPTS": Text(str(message.attempts)),
        "FROM": Text(plain(message.sender)[:_NAME_CHARS] or NOTHING),
        "SAID": Text(f"{said[: _PREVIEW_CHARS - 1]}…" if cut else said or NOTHING),
        "REASON": Text(plain(message.reason) or NOTHING),
    }


def print_details(message: MessageDetails, now: float, *, full: bool) -> None:
    """One message; ``now`` in seconds since the epoch."""
    for name, value in _fields(message, now):
        print(f"{name:<{_LABEL_CHARS}} {plain(value) or NOTHING}")
    print(f"\ncontent:\n{_indented(message.content, full=full)}")
    if message.error:
        print(f"\nerror:\n{_indented(message.error, full=True)}")
    print("\nreplies:" if message.replies else "\nno replies")
    for reply in message.replies:
        print(f"  {_reply_line(reply, now)}")
        print(_indented(reply.content, full=full, margin="    "))


def _fields(message: MessageDetails, now: float) -> Iterator[tuple[str, str]]:
    yield "message", str(message.id)
    yield "agent", message.agent_id
    yield "conversation", message.conversation_id
    yield "id", message.message_id or ""
    yield "from", f"{message.role} {message.sender}"
    yield "received", f"{duration(now - message.received_at)} ago"
    yield "state", message.state
    if message.settled_at is not None:
        yield "settled", f"{duration(now - message.settled_at)} ago"
    if message.not_before is not None:
        yield "next attempt", f"in {duration(message.not_before - now)}"
    yield "attempts", str(message.attempts)
    yield "replays", str(message.replays)
    if message.type != "text":
        yield "type", message.type
    if message.attachments:
        yield "attachments", ", ".join(message.attachments)


def _reply_line(reply: ReplySummary, now: float) -> str:
    again = f", next attempt in {duration(reply.not_before - now)}" if reply.not_before is not None else ""
    reason = f": {plain(reply.reason)}" if reply.reason else ""
    failed = f", {reply.attempts} failed attempts" if reply.attempts else ""
    return f"part {reply.part} ({plain(reply.type)}) {reply.state}{failed}{again}{reason}"


def _indented(text: str, *, full: bool, margin: str = "  ") -> str:
    cleaned = clean_text(text, max(1, len(text)))[0]
    left = len(cleaned) - _SHOWN_CHARS
    if not full and left > 0:
        cleaned = f"{cleaned[:_SHOWN_CHARS]}\n… {left} more characters; --full shows them"
    return "\n".join(margin + line for line in cleaned.split("\n"))
