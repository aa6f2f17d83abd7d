"""Python functions as tools: what the model is told of them, what they are given, and which cannot be one."""

from __future__ import annotations

import asyncio
import enum
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai.exceptions import ToolFailed

from supervisor.handler import AgentContext, ConfigurationError, Context
from supervisor.testing import FakeContext
from tests.support.lone_assistants import part


class Unit(enum.Enum):
    CELSIUS = "C"
    KELVIN = "K"


@dataclass
class Place:
    city: str
    country: str = "DE"


class Filter(BaseModel):
    words: list[str]
    most: int = 5


async def weather(
    city: str,
    days: int = 1,
    *,
    exact: bool = False,
    unit: Unit = Unit.CELSIUS,
    detail: Literal["short", "long"] = "short",
    near: Place | None = None,
    words: Filter | None = None,
    limits: dict[str, float] | None = None,
    ctx: Context,
) -> list[Any]:
    """The weather of a city.

    It is a guess.

    Args:
        city: its name,
            in English
        days (int): how many of them

    Returns:
        What it was given.
    """
    return [city, days, exact, unit, detail, near, words, limits, ctx]


def tool(function: object) -> Any:
    return part("functions").own_tool(function)


def why_not(function: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        tool(function)
    return str(caught.value)


def test_the_model_is_told_what_annotations_and_docstring_say() -> None:
    definition = tool(weather).definition
    assert definition.name == "weather"
    assert definition.description == ("The weather of a city.\n\nIt is a guess.\n\nReturns:\n    What it was given.")
    schema = definition.parameters_json_schema
    properties = schema["properties"]
    assert properties["city"] == {"type": "string", "description": "its name, in English", "title": "City"}
    assert properties["days"] == {"type": "integer", "description": "how many of them", "default": 1, "title": "Days"}
    assert (properties["exact"]["type"], properties["exact"]["default"]) == ("boolean", False)
    assert properties["detail"]["enum"] == ["short", "long"]
    assert schema["$defs"]["Unit"]["enum"] == ["C", "K"]
    assert schema["$defs"]["Place"]["required"] == ["city"]
    assert schema["$defs"]["Filter"]["properties"]["words"]["items"] == {"type": "string"}
    assert properties["limits"]["anyOf"][0]["additionalProperties"] == {"type": "number"}
    assert schema["required"] == ["city"]
    assert schema["additionalProperties"] is False
    assert "ctx" not in properties


def documented(city: str, days: int) -> str:
    """Tell.

    :param city: its name
    :param int days: how many
    """
    return city * days


def test_parameters_are_told_in_the_style_of_sphinx_too() -> None:
    definition = tool(documented).definition
    assert definition.description == "Tell."
    properties = definition.parameters_json_schema["properties"]
    assert [properties[name]["description"] for name in ("city", "days")] == ["its name", "how many"]


async def test_it_gets_values_of_its_types_and_the_context() -> None:
    ctx = FakeContext()
    given = {
        "city": "Ulm",
        "days": "3",
        "unit": "K",
        "near": {"city": "Bonn"},
        "words": {"words": ["a"]},
        "limits": {"most": 1},
    }
    city, days, exact, unit, detail, near, words, limits, context = await tool(weather).call(given, ctx)
    assert (city, days, exact, unit, detail) == ("Ulm", 3, False, Unit.KELVIN, "short")
    assert (near, words, limits) == (Place("Bonn"), Filter(words=["a"]), {"most": 1.0})
    assert context is ctx


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "city: Field required"),
        ({"city": 5}, "city: Input should be a valid string"),
        ({"city": "Ulm", "days": "many"}, "days: Input should be a valid integer"),
        ({"city": "Ulm", "detail": "none"}, "detail: Input should be 'short' or 'long'"),
        ({"city": "Ulm", "ctx": {}}, "ctx: Extra inputs are not permitted"),
        ({"city": "Ulm", "near": {}}, "near.city: Field required"),
    ],
)
async def test_what_the_model_gives_is_checked_before_the_call(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolFailed, match="The arguments are wrong") as caught:
        await tool(weather).call(given, FakeContext())
    assert said in caught.value.message


def where() -> str:
    """Where it runs."""
    return threading.current_thread().name


async def awaited(ctx: AgentContext) -> str:
    """Where it runs, and for whom."""
    await asyncio.sleep(0)
    return f"{threading.current_thread().name} {ctx.agent.name}"


@functools.wraps(awaited)
def behind_a_decorator(*args: Any, **given: Any) -> Any:
    return awaited(*args, **given)


async def test_a_plain_function_runs_in_a_thread_and_a_coroutine_in_the_loop() -> None:
    ctx, own = FakeContext(), threading.current_thread().name
    assert await tool(where).call({}, ctx) != own
    assert await tool(awaited).call({}, ctx) == f"{own} Agent"
    # A plain function may give something to await, as behind a decorator of somebody's.
    assert await tool(behind_a_decorator).call({}, ctx) == f"{own} Agent"


class Counter:
    """What a tool's object keeps."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        """Count on."""
        self.count += number
        return self.count


async def test_a_method_keeps_its_object() -> None:
    counter = Counter()
    adding = tool(counter.add)
    assert [await adding.call({"number": n}, FakeContext()) for n in (1, 2)] == [1, 3]


def exits() -> None:
    """Leave."""
    raise SystemExit(3)


async def exits_late() -> None:
    """Leave."""
    await asyncio.sleep(0)
    raise KeyboardInterrupt


async def cancels() -> None:
    """Cancel."""
    raise asyncio.CancelledError


def stops() -> None:
    """Stop."""
    raise StopIteration


@pytest.mark.parametrize("function", [exits, exits_late, cancels, stops])
async def test_whatever_it_raises_is_an_error_of_that_call(function: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError):
        await tool(function).call({}, FakeContext())


async def hangs(began: asyncio.Event) -> None:
    """Hang."""
    began.set()
    await asyncio.Event().wait()


async def test_who_gives_it_up_is_not_told_that_it_failed() -> None:
    began = asyncio.Event()

    async def waits() -> None:
        """Wait."""
        await hangs(began)

    task = asyncio.create_task(tool(waits).call({}, FakeContext()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def undocumented(city: str) -> str:
    return city


def untyped(city) -> str:  # type: ignore[no-untyped-def]
    """Tell."""
    return str(city)


def odd(client: threading.Lock) -> str:
    """Tell."""
    return str(client)


def many(*cities: str) -> str:
    """Tell."""
    return "".join(cities)


def positional(city: str, /) -> str:
    """Tell."""
    return city


def unknown(city: Unknown) -> str:  # type: ignore[name-defined]  # noqa: F821  that is the point
    """Tell."""
    return str(city)


def yields() -> Iterator[str]:
    """Tell."""
    yield "a"


async def yields_later() -> AsyncIterator[str]:
    """Tell."""
    yield "a"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (undocumented, "tool undocumented is left out: it has no docstring; say in one what it does"),
        (untyped, "tool untyped is left out: its parameter city has no type; annotate it: str, int, float, bool"),
        (odd, "tool odd is left out: its parameter client is of a type that a model cannot give"),
        (many, "tool many is left out: its parameter cities cannot be given by name"),
        (positional, "tool positional is left out: its parameter city cannot be given by name"),
        (unknown, "tool unknown is left out: its annotations cannot be read (name 'Unknown' is not defined)"),
        (yields, "tool yields is left out: it is a generator"),
        (yields_later, "tool yields_later is left out: it is a generator"),
        ("weather", "a tool is left out: str is no function"),
        (functools.partial(documented, "Ulm"), "a tool is left out: partial is no function"),
    ],
)
def test_what_cannot_be_a_tool_is_named_with_what_to_do(function: object, said: str) -> None:
    assert why_not(function).startswith(said)
