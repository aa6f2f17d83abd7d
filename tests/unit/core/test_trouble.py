"""When an agent that is online counts as failing, stuck or spent."""

from __future__ import annotations

import pytest

from supervisor.core.trouble import FAILING, SPENT, STUCK, STUCK_SECONDS, oldest, online_trouble


@pytest.mark.parametrize(
    ("failing", "waited", "may_take", "spent", "expected"),
    [
        (False, 0.0, 300.0, False, ""),
        (False, STUCK_SECONDS, 300.0, False, ""),
        (False, STUCK_SECONDS + 1, 300.0, False, STUCK),
        (False, STUCK_SECONDS + 1, 3600.0, False, ""),
        (False, 3601.0, 3600.0, False, STUCK),
        (True, 0.0, 300.0, False, FAILING),
        (True, 3601.0, 300.0, True, FAILING),
        (False, 0.0, 300.0, True, SPENT),
        (False, 3601.0, 3600.0, True, STUCK),
    ],
)
def test_an_agent_is_failing_before_it_is_stuck_and_stuck_before_it_is_spent(
    failing: bool, waited: float, may_take: float, spent: bool, expected: str
) -> None:
    found = online_trouble(failing=failing, waited_seconds=waited, may_take_seconds=may_take, spent=spent)
    assert found == expected


@pytest.mark.parametrize(
    ("seconds", "said"), [(659.0, "oldest 10 min"), (7199.0, "oldest 119 min"), (7200.0, "oldest 2 h")]
)
def test_the_longest_wait_in_words(seconds: float, said: str) -> None:
    assert oldest(seconds) == said
