"""For each guard of the replicas' protocol the shortest schedule known in which it is missed."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.model_database import LEASE_SECONDS
from tests.support.model_flaws import Flaw
from tests.support.model_fleet import Fleet
from tests.support.model_replica import Replica

AGENT = "ada"
#: After so many seconds whoever does not beat is buried, and his agents run elsewhere.
BURIED = int(LEASE_SECONDS) + 3
COMMIT = ("begin", "server", "told")


def new_fleet(*flaws: Flaw, history: bool) -> Fleet:
    """Two replicas, the first of which runs the agent.

    Args:
        history: whether the platform tells what was missed.
    """
    fleet = Fleet(history, flaws=frozenset(flaws))
    fleet.join()
    fleet.join()
    seconds(fleet, 3)
    return fleet


def seconds(fleet: Fleet, number: int) -> None:
    for _ in range(number):
        fleet.second()


def says(fleet: Fleet, *, named: bool = True) -> None:
    fleet.platform.say(AGENT, "one", named=named)


def take(fleet: Fleet, replica: Replica, *names: str) -> None:
    """Steps of one replica; ``server``: the server ends what it has under way."""
    for name in names:
        if name == "server":
            fleet.settle_all(replica)
        else:
            replica.step(name)


def hears(fleet: Fleet) -> Replica:
    """The owner has read a message, and written nothing."""
    says(fleet)
    take(fleet, fleet.replicas[0], "read")
    return fleet.replicas[0]


def absent(fleet: Fleet, replica: Replica) -> None:
    """Frozen for longer than the lease."""
    replica.frozen = True
    seconds(fleet, BURIED)
    replica.frozen = False


def is_to_leave(fleet: Fleet) -> Replica:
    """A third replica listens for the agent; its owner, which has read nothing since, knows."""
    owner = fleet.replicas[0]
    fleet.join()
    owner.frozen = True
    seconds(fleet, 2)
    owner.frozen = False
    assert fleet.database.leases[AGENT].ready
    take(fleet, owner, "view", "follow")
    return owner


def write_after_a_burial(fleet: Fleet) -> None:
    owner = hears(fleet)
    absent(fleet, owner)
    take(fleet, owner, *COMMIT)


def freeze_while_a_statement_is_under_way(fleet: Fleet) -> None:
    owner = hears(fleet)
    take(fleet, owner, "begin")
    absent(fleet, owner)
    take(fleet, owner, "server")


def lose_an_answer(fleet: Fleet) -> None:
    owner = hears(fleet)
    take(fleet, owner, "begin")
    fleet.cut_database(owner)
    take(fleet, owner, "server")


def join_while_people_talk(fleet: Fleet) -> None:
    fleet.join()
    seconds(fleet, 3)
    says(fleet)


def hear_while_leaving(fleet: Fleet) -> None:
    owner = is_to_leave(fleet)
    says(fleet)
    take(fleet, owner, "read", "read", "release", *COMMIT)


def look_just_before_the_end(fleet: Fleet) -> None:
    owner = is_to_leave(fleet)
    take(fleet, owner, "read", "release", "begin", "view", "server", "told", "follow")
    says(fleet)
    take(fleet, owner, "read", *COMMIT)


def freeze_who_comes(fleet: Fleet) -> None:
    owner = is_to_leave(fleet)
    take(fleet, owner, "read")
    says(fleet, named=False)
    take(fleet, owner, "release", *COMMIT, "view", "follow")
    newcomer = fleet.replicas[2]
    absent(fleet, newcomer)
    take(fleet, newcomer, "read", "view", "follow")


def set_a_clock_back(fleet: Fleet) -> None:
    fleet.join(skew=-3600.0)
    seconds(fleet, 3)


def learn_of_a_beat_late(fleet: Fleet) -> None:
    owner = hears(fleet)
    take(fleet, owner, *COMMIT, "work", *COMMIT, "beat")
    absent(fleet, owner)
    take(fleet, owner, "beaten", "send")


def hear_while_frozen(fleet: Fleet) -> None:
    fleet.replicas[0].frozen = True
    says(fleet)
    absent(fleet, fleet.replicas[0])


def leave_what_the_socket_holds(fleet: Fleet) -> None:
    fleet.replicas[0].frozen = True
    says(fleet, named=False)
    owner = is_to_leave(fleet)
    take(fleet, owner, "release", *COMMIT)


def say_it_to_both(fleet: Fleet) -> None:
    owner = is_to_leave(fleet)
    says(fleet, named=False)
    take(fleet, owner, "read", "read", "release", *COMMIT)


def say_while_nobody_listens(fleet: Fleet) -> None:
    fleet.cut_platform(fleet.replicas[0])
    says(fleet)
    fleet.join()
    seconds(fleet, 3)


def change_who_is_relied_on(fleet: Fleet) -> None:
    owner = is_to_leave(fleet)
    fleet.drain(owner)
    fleet.drain(fleet.replicas[2])
    for _ in range(2):
        take(fleet, fleet.replicas[1], "look", "order")
    assert fleet.database.leases[AGENT].next == fleet.replicas[1].number
    take(fleet, owner, "read", "release", *COMMIT)
    take(fleet, fleet.replicas[2], "view", "follow")
    says(fleet)


def break_who_is_relied_on(fleet: Fleet) -> None:
    owner = is_to_leave(fleet)
    newcomer = fleet.replicas[2]
    fleet.cut_platform(newcomer)
    take(fleet, owner, "read", "release", *COMMIT, "view", "follow")
    says(fleet)
    newcomer.no_platform = False
    take(fleet, newcomer, "view", "follow")


def call_off_who_alone_has_heard(fleet: Fleet) -> None:
    owner = fleet.replicas[0]
    fleet.join()
    owner.frozen = True
    seconds(fleet, 2)
    fleet.cut_platform(owner)
    says(fleet)
    fleet.drain(fleet.replicas[2])
    take(fleet, fleet.replicas[1], "look", "order")
    owner.frozen = False


def die_at_work(fleet: Fleet) -> None:
    owner = hears(fleet)
    take(fleet, owner, *COMMIT)
    fleet.kill(owner)


def work(fleet: Fleet) -> None:
    take(fleet, hears(fleet), *COMMIT, "work", "deliver")


SCHEDULES: dict[Flaw, Callable[[Fleet], None]] = {
    Flaw.NO_FENCE: write_after_a_burial,
    Flaw.HASTY_BURIAL: freeze_while_a_statement_is_under_way,
    Flaw.NEW_NUMBER: lose_an_answer,
    Flaw.PLANNER_TAKES: join_while_people_talk,
    Flaw.EARLY_RELEASE: hear_while_leaving,
    Flaw.STALE_VIEW: look_just_before_the_end,
    Flaw.BLIND_VIEW: freeze_who_comes,
    Flaw.CLOCK_DECIDES: set_a_clock_back,
    Flaw.LATE_DEADLINE: learn_of_a_beat_late,
    Flaw.NO_HAND_IN: hear_while_frozen,
    Flaw.DEAF_RELEASE: leave_what_the_socket_holds,
    Flaw.EARLY_NEWS: say_it_to_both,
    Flaw.BREAK_BEFORE_MAKE: join_while_people_talk,
    Flaw.NO_RESCUE: die_at_work,
    Flaw.TRUSTED_OWNER: say_while_nobody_listens,
    Flaw.ANOTHER_NEXT: change_who_is_relied_on,
    Flaw.BLIND_NEWCOMER: break_who_is_relied_on,
    Flaw.MUTE_NEWCOMER: call_off_who_alone_has_heard,
    Flaw.SEND_FIRST: work,
}
#: Those in which the platform tells what was missed.
WITH_HISTORY = frozenset({Flaw.TRUSTED_OWNER, Flaw.ANOTHER_NEXT, Flaw.BLIND_NEWCOMER})
