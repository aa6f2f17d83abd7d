"""What the protocol of several replicas promises to keep by a guard of its, each of which can be left out."""

from __future__ import annotations

import enum


class BrokenPromiseError(AssertionError):
    """Something happened that the protocol promises never to happen."""


class Flaw(enum.Enum):
    """One guard of the protocol that is left out, to see that it is missed."""

    NO_FENCE = "the journal writes without asking for the fence"
    HASTY_BURIAL = "a burial does not wait for what is under way"
    NEW_NUMBER = "a batch whose answer was lost is sent again as another one"
    PLANNER_TAKES = "the planner gives away what somebody owns"
    EARLY_RELEASE = "an agent is given away before what was written for it"
    STALE_VIEW = "a look at the leases counts, however old it is"
    BLIND_VIEW = "who is buried takes it that he is to hear nobody, instead of handing in what he heard"
    CLOCK_DECIDES = "who is dead is read from the clocks of two machines"
    LATE_DEADLINE = "the right to send counts from the answer to a beat, not from the beat"
    NO_HAND_IN = "a fenced replica forgets what it heard"
    DEAF_RELEASE = "an owner gives an agent away before it has read what its socket holds"
    EARLY_NEWS = "what has no name is news once an agent has come, though its socket holds what the old owner heard too"
    BREAK_BEFORE_MAKE = "an owner gives an agent away before the next one listens"
    NO_RESCUE = "who takes an agent over leaves what ran"
    TRUSTED_OWNER = "who lets go says that it has heard everything, though its connection had broken"
    ANOTHER_NEXT = "that all was heard before one replica listened counts for another one too"
    BLIND_NEWCOMER = "who comes does not mind that its connection broke once it was relied on"
    MUTE_NEWCOMER = "who was to come and does not forgets what it heard"
    SEND_FIRST = "a reply is sent before it is committed"
