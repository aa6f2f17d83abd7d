"""Which agents a request is about: the same words as the command line's, in the query."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from supervisor.management.selection import Selector

_Words = list[Annotated[str, Query(max_length=10_000)]] | None
_Label = Annotated[
    _Words, Query(description="Agents with this label, `KEY=VALUE` or `KEY`. May be given more than once: with all.")
]
_State = Annotated[
    _Words, Query(description="Agents in this state, `failing` among them. May be given more than once: in any.")
]
_Handler = Annotated[
    _Words, Query(description="Agents with this handler, `echo` for `echo:Handler` too. May be given more than once.")
]


def _selector(label: _Label = None, state: _State = None, handler: _Handler = None) -> Selector:
    return Selector.of(label or (), state or (), handler or ())


def _selector_beside_messages(label: _Label = None, agent_state: _State = None, handler: _Handler = None) -> Selector:
    return Selector.of(label or (), agent_state or (), handler or ())


#: The agents that are wanted; raises ConfigurationError where the query has no sense.
Selected = Annotated[Selector, Depends(_selector)]
#: The same where ``state`` is that of messages.
SelectedBeside = Annotated[Selector, Depends(_selector_beside_messages)]
