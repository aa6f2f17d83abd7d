"""Random scripts of faults against agents: legal states, no socket too many, and all back once the faults are gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.agent_scripts import AGENTS, Step, World, play
from tests.support.paper_fleet import player
from tests.support.paper_platform import CONNECT_FATES, TOKEN_FATES

which = st.integers(0, len(AGENTS) - 1)
passing = st.one_of(
    st.tuples(st.just("turns"), st.integers(1, 60)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 7.0, 16.0, 61.0, 400.0])),
)
platform = st.one_of(
    st.tuples(st.just("tokens"), st.lists(st.sampled_from(TOKEN_FATES), max_size=3), st.sampled_from(TOKEN_FATES)),
    st.tuples(st.just("tokens"), st.lists(st.sampled_from(TOKEN_FATES), max_size=5), st.just("ok")),
    st.tuples(
        st.just("connects"), st.lists(st.sampled_from(CONNECT_FATES), max_size=3), st.sampled_from(CONNECT_FATES)
    ),
    st.tuples(st.just("connects"), st.lists(st.sampled_from(CONNECT_FATES), max_size=5), st.just("ok")),
    st.tuples(st.just("cut"), which, st.sampled_from(["transport error", "server disconnect"])),
    st.tuples(st.just("cut_all"), st.sampled_from(["transport error", "server disconnect"])),
)
changes = st.sampled_from(
    [
        {"paused": True},
        {"paused": False},
        {"name": "Somebody"},
        {"settings": {"concurrency": 2}},
        {"settings": {"mood": "good"}},
        {"settings": {"ws_namespace": "/ws"}},
        {"settings": {"concurrency": "many"}},
        {"settings": {"ws_url": "wss://elsewhere.example/chat"}},
        {"settings": {}},
        {"handler": "nowhere"},
        {"handler": "stage"},
        {"secret": "file:/elsewhere"},
        {"secret": "env:AGENT_NOBODY"},
    ]
)
people = st.one_of(
    st.tuples(st.just("row"), which, changes),
    st.tuples(st.just("row"), which, changes),
    st.tuples(st.just("row"), which, st.sampled_from([{"paused": True}, {"paused": False}])),
    st.tuples(st.just("secret"), st.booleans()),
    st.tuples(st.just("code"), st.booleans()),
    st.tuples(st.just("remove"), which),
    st.tuples(st.just("reload"), which),
    st.tuples(st.just("poke"), which),
)
_KINDS = {"passing": passing, "platform": platform, "people": people}
steps = st.sampled_from(["passing", "passing", "passing", "platform", "platform", "people", "people"]).flatmap(
    _KINDS.__getitem__
)
# Left to itself the strategy makes lists of half a dozen.
scripts = st.sampled_from([1, 10, 20, 30]).flatmap(lambda least: st.lists(steps, min_size=least, max_size=least + 15))
worlds = st.fixed_dictionaries(
    {"keeps_ids": st.booleans(), "token_seconds": st.sampled_from([86_400, 200]), "job_turns": st.integers(0, 4)}
)


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    return player(play, tmp_path_factory.mktemp("scripts"))


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.timeout(600)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=_CHECKS)
@given(world=worlds, script=scripts)
def test_agents_find_back_from_any_script(playing: Callable[..., None], world: World, script: list[Step]) -> None:
    playing(world, script)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=1500, deadline=None, suppress_health_check=_CHECKS)
@given(world=worlds, script=scripts)
def test_agents_find_back_from_many_scripts(playing: Callable[..., None], world: World, script: list[Step]) -> None:
    playing(world, script)
