"""What a token tells of its agent that somebody should know, though nothing fails yet. No I/O."""

from __future__ import annotations

from typing import Final

from supervisor.platform.tokens.grants import Grant

_VIEWER: Final = "organization.viewer"
#: The note of an agent that may read and no more (docs/protocol.md#4-sending).
VIEWER_NOTE: Final = (
    f"its role on the platform is {_VIEWER}, the default: the platform's first generation lets such an agent say "
    "nothing, later ones do; organization.editor may write on all"
)
#: The note of an agent that the platform runs as well (docs/protocol.md#7-findings).
ASSISTANT_NOTE: Final = (
    "its type on the platform is assistant: the platform's own worker answers its people too, so they get two answers; "
    "make it an engineer there"
)
#: The note of an agent whose token was made at another time than it was got.
CLOCK_NOTE: Final = (
    "by its token the platform's clock is {minutes:,.0f} minutes {way} this machine's; a clock that is wrong makes "
    "certificates and tokens look invalid"
)

#: The note of an agent whose token is not valid yet.
NOT_YET_NOTE: Final = (
    "the platform gave a token that is valid only {seconds:,.0f} s after it was made (nbf), and refuses it until then: "
    "the clocks of its own machines disagree"
)


def notes_of(grant: Grant | None) -> tuple[str, ...]:
    """One line for each thing worth a look; empty before the first token."""
    if grant is None:
        return ()
    found = []
    if ahead := grant.clock_ahead_seconds:
        found.append(CLOCK_NOTE.format(minutes=abs(ahead) / 60, way="ahead of" if ahead > 0 else "behind"))
    if grant.not_yet_seconds:
        found.append(NOT_YET_NOTE.format(seconds=grant.not_yet_seconds))
    if grant.roles == (_VIEWER,):
        found.append(VIEWER_NOTE)
    if grant.answer.type == "assistant":
        found.append(ASSISTANT_NOTE)
    return tuple(found)
