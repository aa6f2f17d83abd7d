"""What an agent says about a conversation in place of an answer: people read it, and no handler remembers it."""

from __future__ import annotations

from typing import Final

APOLOGY: Final = "Sorry, I could not answer this message."
APOLOGY_TIMEOUT: Final = "Sorry, this took too long and I had to stop."
#: Said when a budget is used up.
SPENT_NOTICE: Final = "Sorry, I have used up what I may spend today. I can answer again tomorrow, from 00:00 UTC."
#: Said when the inbox is full.
FULL_NOTICE: Final = "Sorry, I have too many messages waiting. Please try again in a little while."
#: Those that are sent without the outbox; in a platform's history they answer nothing.
UNASKED: Final = frozenset({FULL_NOTICE})
#: All of them: a platform's history has them as text like any other.
NOTICES: Final = frozenset({APOLOGY, APOLOGY_TIMEOUT, SPENT_NOTICE, FULL_NOTICE})
