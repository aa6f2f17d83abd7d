"""A Python function as a tool: the model knows it by its annotations and its docstring."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, NotRequired, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.tools import ToolDefinition
from pydantic_core import to_jsonable_python
from typing_extensions import TypedDict

from supervisor.handler import AgentContext, ConfigurationError, Context

from .tools import safe_name

_TYPES: Final = "str, int, float, bool, list, dict, Literal, an Enum, a dataclass or a pydantic model"
#: The parts of a docstring that tell of parameters: a section of Google's style, and its entries; a field of Sphinx's.
_SECTION: Final = re.compile(r"^(\s*)(?:Args|Arguments|Parameters):\s*$")
_ENTRY: Final = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_FIELD: Final = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+):\s*(.*)$")


@dataclass(frozen=True, slots=True)
class OwnTool:
    """One function as a tool.

    Args:
        definition: what the model is told.
        contexts: the parameters that get the message's context.
        arguments: checks the others.
    """

    definition: ToolDefinition
    function: Callable[..., Any]
    contexts: tuple[str, ...]
    arguments: TypeAdapter[dict[str, Any]]

    async def call(self, given: Mapping[str, Any], ctx: Context) -> Any:
        """Call it: a coroutine in the event loop, a plain function in a thread.

        Raises:
            ToolFailed: the arguments are not what it takes. Or what it raises, that of other kinds as a RuntimeError.
        """
        try:
            checked = self.arguments.validate_python(dict(given))
        except ValidationError as error:
            raise ToolFailed(f"The arguments are wrong. {_faults(error)}") from error
        call = functools.partial(self.function, **checked, **dict.fromkeys(self.contexts, ctx))
        try:
            result = call() if inspect.iscoroutinefunction(_innermost(self.function)) else await ctx.in_thread(call)
            return await result if inspect.isawaitable(result) else result
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise RuntimeError(f"{self.definition.name} cancelled itself") from None
        except Exception:
            raise
        except BaseException as error:
            # It would end more than this call.
            raise RuntimeError(f"{self.definition.name} raised {type(error).__name__}") from error


def own_tool(function: object) -> OwnTool:
    """A function as a tool.

    Raises:
        ConfigurationError: it cannot be one; names function and parameter, and says what to do.
    """
    name = getattr(function, "__name__", None)
    if not callable(function) or not isinstance(name, str):
        raise ConfigurationError(f"a tool is left out: {type(function).__name__} is no function; list functions")
    try:
        description, about = _documented(function)
        contexts, arguments = _parameters(name, function, about)
    except ConfigurationError as error:
        raise ConfigurationError(f"tool {name} is left out: {error}") from None
    schema = arguments.json_schema()
    definition = ToolDefinition(name=safe_name(name), parameters_json_schema=schema, description=description)
    return OwnTool(definition, function, contexts, arguments)


def _documented(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says of a function, and of each of its parameters."""
    kept: list[str] = []
    about: dict[str, str] = {}
    section: int | None = None  # how far the section of parameters is indented, while in it
    entries, last = 0, ""
    for line in (inspect.getdoc(function) or "").splitlines():
        indent = len(line) - len(line.lstrip())
        if section is not None and line.strip() and indent <= section:
            section = None
        if found := _SECTION.match(line):
            section, entries, last = len(found[1]), 0, ""
        elif section is not None:
            entry = _ENTRY.match(line)
            if entry and (not entries or indent <= entries):
                entries, last = indent, entry[1]
                about[last] = entry[2]
            elif last:
                about[last] = f"{about[last]} {line.strip()}".strip()
        elif found := _FIELD.match(line):
            about[found[1]] = found[2]
        else:
            kept.append(line)
    if not (description := "\n".join(kept).strip()):
        raise ConfigurationError("it has no docstring; say in one what it does")
    return description, about


def _parameters(
    name: str, function: Callable[..., Any], about: Mapping[str, str]
) -> tuple[tuple[str, ...], TypeAdapter[dict[str, Any]]]:
    """The parameters that get the context, and what checks the others."""
    innermost = _innermost(function)
    if inspect.isasyncgenfunction(innermost) or inspect.isgeneratorfunction(innermost):
        raise ConfigurationError("it is a generator; let it return one result")
    try:
        hints = typing.get_type_hints(innermost, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
    except Exception as error:  # noqa: BLE001  they are anybody's
        raise ConfigurationError(f"its annotations cannot be read ({error}); import their names at run time") from None
    contexts: list[str] = []
    fields: dict[str, Any] = {}
    for parameter in parameters:
        own = parameter.name
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(f"its parameter {own} cannot be given by name; do without * and /")
        if own not in hints:
            raise ConfigurationError(f"its parameter {own} has no type; annotate it: {_TYPES}")
        if _is_context(hints[own]):
            contexts.append(own)
            continue
        kind: Any = _annotated(hints[own], Field(description=about.get(own)))
        _check(own, kind)
        given = parameter.default is not parameter.empty
        fields[own] = NotRequired[_with_default(kind, parameter.default)] if given else kind
    shape = cast("Any", TypedDict)(name, fields)
    shape.__pydantic_config__ = ConfigDict(extra="forbid")
    return tuple(contexts), TypeAdapter(shape)


def _is_context(hint: Any) -> bool:
    return any(one in (Context, AgentContext) for one in (hint, *typing.get_args(hint)))


def _check(name: str, kind: Any) -> None:
    try:
        TypeAdapter(kind).json_schema()
    except Exception as error:  # noqa: BLE001  a type may be anybody's, with rules of its own
        said = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"its parameter {name} is of a type that a model cannot give ({said:.200}); let it be {_TYPES}, "
            "or Context, which it gets"
        ) from None


def _with_default(kind: Any, default: object) -> Any:
    """A type with its default in the schema, where JSON can hold it; the function itself has it."""
    try:
        shown = to_jsonable_python(default)
    except Exception:  # noqa: BLE001  it may be anything
        return kind
    return kind if shown is None else _annotated(kind, Field(json_schema_extra={"default": shown}))


def _annotated(kind: Any, what: object) -> Any:
    return Annotated[kind, what]


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under decorators and partials: it tells the form."""
    unwrapped = inspect.unwrap(function)
    return _innermost(unwrapped.func) if isinstance(unwrapped, functools.partial) else unwrapped


def _faults(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
