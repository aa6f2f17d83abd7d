"""What is wrong in several places is told at once, each thing once and in a line."""

from __future__ import annotations

import pytest

from supervisor.core.errors import ConfigurationError, RegistryError, SeveralProblemsError
from supervisor.core.problems import Problems, error_of


def refuse(error: Exception) -> None:
    raise error


def test_what_is_refused_is_gathered_and_told_at_the_end() -> None:
    problems = Problems("f.yaml: agent 2")
    problems.raise_found()
    for error in (RegistryError("id is too long"), error_of(["name must be text", "paused must be true or false"])):
        with problems.gathered():
            refuse(error)
    problems.add("name must be text")
    with pytest.raises(SeveralProblemsError) as caught:
        problems.raise_found()
    assert caught.value.problems == list(problems)
    assert list(problems) == [
        "f.yaml: agent 2: id is too long",
        "f.yaml: agent 2: name must be text",
        "f.yaml: agent 2: paused must be true or false",
    ]
    assert str(caught.value) == "; ".join(problems)


def test_one_is_an_error_like_any_other_and_a_defect_of_ours_is_none() -> None:
    problems = Problems()
    problems.add("handler is missing")
    with pytest.raises(ConfigurationError) as caught:
        problems.raise_found()
    assert (type(caught.value), str(caught.value)) == (ConfigurationError, "handler is missing")
    with pytest.raises(ZeroDivisionError), problems.gathered():
        refuse(ZeroDivisionError())


def test_of_very_many_the_first_are_told_and_how_many_there_are_besides() -> None:
    error = error_of([f"problem {number}" for number in range(1, 10_001)])
    assert isinstance(error, SeveralProblemsError)
    assert error.problems[-2:] == ["problem 20", "and 9980 more"]
