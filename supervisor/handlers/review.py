"""What can be seen of a handler before a message comes: what it cannot be called with, and names that nobody calls."""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from supervisor.core.errors import HandlerError
from supervisor.handler import Context, Handler
from supervisor.handlers.declared import SETTINGS, settings_of
from supervisor.settings.slips import slip

#: What the supervisor calls of a handler, and with what.
HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(inspect.signature(function).parameters)[1:]
    for name, function in vars(Handler).items()
    if name.startswith("on_")
}
#: What of ``ctx`` has to be awaited.
AWAITED: Final = frozenset(name for name, _ in inspect.getmembers(Context, inspect.iscoroutinefunction))
#: Where what a call gives is used at once, or not at all.
_USES: Final = (ast.Expr, ast.FormattedValue, ast.Attribute, ast.Subscript, ast.For, ast.comprehension, ast.BinOp)
#: How alike a name must be to that of a hook to be a slip for it.
_SLIP_RATIO: Final = 0.8
_ON_MESSAGE: Final = "on_message"


def review(module: types.ModuleType, target: Any, on_message: Callable[..., Any], reference: str) -> tuple[str, ...]:
    """What its author should know of a handler that runs all the same, a line each, with file and line.

    Args:
        module: where it was found.
        target: the handler, an instance where a class was named.
        on_message: what is called for a message.

    Raises:
        HandlerError: no message could be answered, or the agent could never start.
    """
    try:
        return tuple(_review(module, target, on_message, reference))
    except HandlerError:
        raise
    except BaseException:  # noqa: BLE001  looking may run the author's code; what cannot be looked at is not reviewed
        return ()


def _review(module: types.ModuleType, target: Any, on_message: Callable[..., Any], reference: str) -> Iterator[str]:
    if misfit := _misfit(on_message, _ON_MESSAGE):
        raise HandlerError(f"Handler {reference!r}: {misfit}")
    source = _source(module)
    if inspect.isroutine(target):
        own = _functions(module)
        yield from _beside(own, source)
    else:
        own = _methods(target)
        yield from _hooks(target, on_message, own, reference)
    yield from _misspelt(own, source)
    yield from _settings(module, source)
    yield from _unawaited(source, Path(str(module.__file__)).name)


def _beside(own: Mapping[str, Any], source: str) -> Iterator[str]:
    """Hooks that stand beside a function, where only its author could call them."""
    for name, function in own.items():
        if name in HOOKS and name != _ON_MESSAGE and not _is_named_again(name, source):
            where = place(function)
            yield f"{name} stands beside on_message, where nobody calls it: hooks belong to a class{where}"


def _hooks(target: Any, on_message: Callable[..., Any], own: Mapping[str, Any], reference: str) -> Iterator[str]:
    """What is wrong with the hooks of an object.

    Raises:
        HandlerError: it does nothing at all, or its agent could never start.
    """
    hooks = [name for name in own if name in HOOKS and name != _ON_MESSAGE]
    if getattr(on_message, "__func__", None) is Handler.on_message:
        slips = ", ".join(f"{name} is no hook" for name in own if near_hook(name) == _ON_MESSAGE)
        text = f"{type(target).__name__} has no on_message{f': {slips}' if slips else ''}{place(type(target))}"
        if not hooks:
            raise HandlerError(f"Handler {reference!r}: {text}")
        yield text
    for name in hooks:
        if misfit := _misfit(getattr(target, name), name):
            if name == "on_start":
                raise HandlerError(f"Handler {reference!r}: {misfit}")
            yield misfit


def _misfit(function: Any, name: str) -> str | None:
    """Why what is called ``name`` cannot be called as the supervisor does; None where it can, or does not say."""
    given = HOOKS[name]
    if not callable(function):
        return f"{name} is a {type(function).__name__}, which cannot be called"
    if "__signature__" in getattr(function, "__dict__", {}):
        # It says something else than what it takes.
        return None
    try:
        # What a decorator takes counts, not what it stands around.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*given)
    except TypeError:
        text = f"{name}{_shown(signature)} is called with ({', '.join(given)}), which it does not take"
        return f"{text}{_selfless(function)}{place(function)}"
    return None


def _shown(signature: inspect.Signature) -> str:
    """The parameters by name: annotations would only make it long."""
    names = [f"{'*' * (one.kind is one.VAR_POSITIONAL)}{one.name}" for one in signature.parameters.values()]
    return f"({', '.join(names)})"


def _selfless(function: Any) -> str:
    """What is likely missing in a method that takes too little."""
    parameters = list(inspect.signature(function.__func__).parameters) if inspect.ismethod(function) else ["self"]
    return "" if parameters[:1] in (["self"], ["cls"]) else "; a method's first parameter is self"


def _functions(module: types.ModuleType) -> dict[str, Any]:
    """The functions that a module makes itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    }


def _methods(target: Any) -> dict[str, Any]:
    """What an object's own classes define, those of ours and Python's left out; the nearest class counts."""
    found: dict[str, Any] = {}
    for one in type(target).__mro__:
        if one not in (Handler, object):
            found = {**{name: value for name, value in vars(one).items() if callable(value)}, **found}
    return found


def near_hook(name: str) -> str | None:
    """The hook that a name is a slip for; None: it is one, or is near to none."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    if name in HOOKS or not snake.startswith("on"):
        return None
    return next(iter(difflib.get_close_matches(snake, HOOKS, n=1, cutoff=_SLIP_RATIO)), None)


def _misspelt(own: Mapping[str, Any], source: str) -> Iterator[str]:
    for name, value in own.items():
        near = near_hook(name)
        if near and near not in own and not _is_named_again(name, source):
            yield f"{name} is no hook, and nobody calls it; did you mean {near}?{place(value)}"


def _is_named_again(name: str, source: str) -> bool:
    """Whether a module names what it defines a second time: then its author calls it."""
    return len(re.findall(rf"\b{name}\b", source)) > 1


def _settings(module: types.ModuleType, source: str) -> tuple[str, ...]:
    """Slips between the settings that a module says it has and those that it reads."""
    value = getattr(module, SETTINGS, None)
    if value is None:
        return ()
    return _setting_slips(source, settings_of(value), Path(str(module.__file__)).name)


@functools.lru_cache(maxsize=64)
def _setting_slips(source: str, declared: tuple[str, ...] | None, file: str) -> tuple[str, ...]:
    """As :func:`_settings`, once for all agents of a handler."""
    tree = ast.parse(source)
    if declared is None:
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == SETTINGS]
        at = f" ({file}, line {lines[0]})" if lines else ""
        return (f'{SETTINGS} is neither a tuple of names nor a dict of schemas; write ("city",) for one{at}',)
    return tuple(
        f"the setting {name} is read, and {SETTINGS} has none; did you mean {near}? ({file}, line {line})"
        for name, line in _settings_read(tree)
        if (near := slip(name, declared))
    )


@functools.lru_cache(maxsize=64)
def _unawaited(source: str, file: str) -> tuple[str, ...]:
    """Calls of ``ctx`` that do nothing, because nobody awaits them; once for all agents of a handler."""
    return tuple(
        f"ctx.{call.func.attr}(…) is not awaited, so it does nothing: await ctx.{call.func.attr}(…)"
        f" ({file}, line {call.lineno})"
        for user in ast.walk(ast.parse(source))
        for call in ast.iter_child_nodes(user)
        if isinstance(user, _USES) and isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in AWAITED and isinstance(call.func.value, ast.Name) and call.func.value.id == "ctx"
    )


def _settings_read(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each ``….settings["name"]`` and ``….settings.get("name")``, with its line."""
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript) and _is_settings(node.value):
            key = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            key = node.args[0] if node.func.attr == "get" and _is_settings(node.func.value) else None
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value, key.lineno


def _is_settings(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("settings", "own_settings")


def _source(module: types.ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return ""


def place(thing: Any) -> str:
    """Where a function or class was written, as `` (shout.py, line 5)``; empty where that cannot be known."""
    try:
        code = getattr(inspect.unwrap(getattr(thing, "__func__", thing)), "__code__", None)
        file = code.co_filename if code else inspect.getsourcefile(thing)
        line = code.co_firstlineno if code else inspect.getsourcelines(thing)[1]
    except (OSError, TypeError, ValueError):
        return ""
    return f" ({Path(file).name}, line {line})" if file else ""
