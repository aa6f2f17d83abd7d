"""Random scripts of faults against the life of messages.

What holds after each: legal transitions only, order within a lane, one final state, nothing lost.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.message_scripts import MAX_ATTEMPTS, Step, World, play
from tests.support.paper_fleet import REFUSALS, player
from tests.support.paper_platform import SEND_FATES
from tests.support.stage import ACTS

acts = st.lists(st.sampled_from(ACTS), max_size=MAX_ATTEMPTS + 1)
#: What a person says: where, what the handler does with it, whether the platform gives it an id.
says = st.tuples(st.just("say"), st.integers(0, 2), acts, st.booleans())
passing = st.one_of(
    st.tuples(st.just("turns"), st.integers(1, 40)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 2.0, 6.0, 31.0, 130.0, 700.0])),
)
sends = st.tuples(st.just("sends"), st.lists(st.sampled_from(SEND_FATES), min_size=1, max_size=6))
disk = st.tuples(st.just("disk"), st.sampled_from([*REFUSALS, "all", "mend"]))
ends = st.one_of(
    st.tuples(st.just("crash")),
    st.tuples(st.just("restart"), st.sampled_from([0.0, 1.0, 60.0])),
)
connection = st.one_of(
    st.tuples(st.just("cut"), st.sampled_from(["transport error", "server disconnect"])),
    st.tuples(st.just("platform"), st.sampled_from(["refuse", "ok"])),
)
people = st.one_of(
    st.tuples(st.just("again"), st.integers(0, 20)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("reload")),
    st.tuples(st.just("concurrency"), st.integers(1, 3)),
    st.tuples(st.just("replay"), st.integers(0, 5)),
    st.tuples(st.just("discard"), st.integers(0, 5)),
)
# Chosen in two steps, since one_of() would take each of the rarer kinds as often as what people say.
_KINDS = {"says": says, "passing": passing, "sends": sends, "disk": disk, "ends": ends, "connection": connection}
_KINDS |= {"people": people}
_WEIGHTED = [*["says"] * 7, *["passing"] * 6, "sends", "sends", "disk", "ends", "connection", "people", "people"]
steps = st.sampled_from(_WEIGHTED).flatmap(_KINDS.__getitem__)
# Left to itself the strategy makes lists of half a dozen.
scripts = st.sampled_from([1, 10, 20, 30]).flatmap(lambda least: st.lists(steps, min_size=least, max_size=least + 15))
worlds = st.fixed_dictionaries(
    {
        "keeps_ids": st.booleans(),
        "streams": st.booleans(),
        "at_most_once": st.booleans(),
        "job_turns": st.integers(0, 4),
    }
)


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    return player(play, tmp_path_factory.mktemp("scripts"))


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.timeout(600)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=_CHECKS)
@given(world=worlds, script=scripts)
def test_messages_survive_any_script(playing: Callable[..., None], world: World, script: list[Step]) -> None:
    playing(world, script)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=2000, deadline=None, suppress_health_check=_CHECKS)
@given(world=worlds, script=scripts)
def test_messages_survive_many_scripts(playing: Callable[..., None], world: World, script: list[Step]) -> None:
    playing(world, script)
