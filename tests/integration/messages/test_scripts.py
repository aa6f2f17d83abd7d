"""Scripts that a random search has found: each of them broke something (tests/reliability/test_properties_messages)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.message_scripts import MAX_ATTEMPTS, Step, World, play
from tests.support.paper_fleet import make_template
from tests.support.stage import current

WORLD: World = {"keeps_ids": True, "streams": False, "at_most_once": False, "job_turns": 0}


@pytest.mark.parametrize("streams", [True, False])
def test_an_apology_never_takes_the_id_of_a_part_that_waits_for_the_disk(tmp_path: Path, streams: bool) -> None:
    script: list[Step] = [("say", 0, ["parts"], True), ("wait", 0.1), ("disk", "all"), ("wait", 130.0)]
    play(asyncio.run(make_template(tmp_path)), tmp_path, {**WORLD, "streams": streams}, script)


def test_a_claim_that_is_refused_while_its_lane_closes_leaves_no_exception_behind(tmp_path: Path) -> None:
    script: list[Step] = [
        ("disk", "claims"),
        ("say", 0, ["permanent"], True),
        ("say", 0, [], True),
        ("turns", 31),
        ("reload",),
        ("turns", 4),
        ("crash",),
    ]
    play(asyncio.run(make_template(tmp_path)), tmp_path, {**WORLD, "job_turns": 2}, script)


@pytest.mark.parametrize("act", ["part_then_fail", "fail", "answer", "parts"])
def test_a_handler_does_not_run_again_because_its_end_could_not_be_journaled(tmp_path: Path, act: str) -> None:
    """What a person has seen is not made twice, and no apology follows an answer."""
    script: list[Step] = [("disk", "settling"), ("say", 0, [act, act, act], True), ("wait", 130.0)]
    play(asyncio.run(make_template(tmp_path)), tmp_path, {**WORLD, "streams": True}, script)
    # A plain failure may be tried again, and only the last one is the end.
    assert current().played["m0"] == [act] * (MAX_ATTEMPTS if act == "fail" else 1)
