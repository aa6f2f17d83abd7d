"""Each fault test counts what it does in a :class:`Case`, which the report shows."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from tests.support.reliability import Case


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None]:
    """Remember the outcome on the item, for the fixture's teardown."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if call.when == "call":
        item.stash[_OUTCOME] = report.outcome


_OUTCOME = pytest.StashKey[str]()


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Generator[Callable[[str], Case]]:
    """Makes the test's case: ``figures = case("R4")``."""
    cases: list[Case] = []

    def make(name: str) -> Case:
        cases.append(Case(name))
        return cases[-1]

    yield make
    for one in cases:
        one.write(request.node.stash.get(_OUTCOME, "error"))
