"""Which object of a module a row may name as its handler, and which one is meant where it names none.

Rows are data: a name that leads anywhere in a module would reach whatever the module has imported. So it is one
attribute, and what comes from elsewhere counts only where the module's author offers it.
"""

from __future__ import annotations

import ast
import inspect
import types
from typing import Any

from supervisor.core.errors import HandlerError
from supervisor.handler import Handler
from supervisor.handlers.review import near_hook, place

_DEFAULT = "on_message"


def pick(module: types.ModuleType, attribute: str, reference: str) -> Any:
    """The handler of a module: the attribute named, else its Handler class, else its ``on_message``.

    Raises:
        HandlerError: it has none, or the one that is named is none of its own.
    """
    if attribute:
        return _named(module, attribute, reference)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Handler) and value.__module__ == module.__name__
    ]
    if len(classes) == 1:
        return classes[0]
    if classes:
        names = ", ".join(value.__name__ for value in classes)
        raise HandlerError(
            f"Handler {reference!r} has several classes ({names}); name one: {reference}:{classes[0].__name__}"
        )
    if hasattr(module, _DEFAULT):
        return module.on_message
    raise HandlerError(f"Handler {reference!r} has neither a Handler class nor an on_message{_hint(module, reference)}")


def _hint(module: types.ModuleType, reference: str) -> str:
    """What its author may have meant to be the handler; empty where nothing is near."""
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    for name, value in own.items():
        if inspect.isclass(value) and callable(getattr(value, _DEFAULT, None)):
            return f"; name the class: {reference}:{name}"
    for name, value in own.items():
        if inspect.isfunction(value) and near_hook(name) == _DEFAULT:
            return f"; did you mean on_message by {name}?{place(value)}"
    return ""


def _named(module: types.ModuleType, attribute: str, reference: str) -> Any:
    try:
        value = getattr(module, attribute)
    except AttributeError:
        raise HandlerError(f"Handler {reference!r}: its module has no {attribute!r}") from None
    if (
        _is_handler(value)
        or attribute == _DEFAULT
        or attribute in _offered(module)
        or _is_own(module, attribute, value)
    ):
        return value
    raise HandlerError(
        f"Handler {reference!r}: {attribute!r} is not the module's own; where it is meant, name it in its __all__"
    )


def _is_handler(value: Any) -> bool:
    return isinstance(value, Handler) or (inspect.isclass(value) and issubclass(value, Handler))


def _offered(module: types.ModuleType) -> frozenset[str]:
    """What a module says that it offers."""
    offered = getattr(module, "__all__", ())
    return frozenset(map(str, offered)) if isinstance(offered, list | tuple) else frozenset()


def _is_own(module: types.ModuleType, name: str, value: Any) -> bool:
    """Whether the module made what it calls ``name``."""
    bound = _bindings(module)
    if bound is not None:
        if name in bound.made and name not in bound.imported:
            # What a decorator made of it belongs to whoever wrote the ``def``.
            return True
        if name not in bound.made | bound.assigned:
            return False
    if inspect.ismodule(value):
        return False
    if not (inspect.isroutine(value) or inspect.isclass(value)):
        # An object that was made here: a partial, or one with ``__call__``.
        return True
    home = getattr(inspect.unwrap(value), "__module__", None) or ""
    return home == module.__name__ or home.startswith(f"{module.__name__}.")


def _bindings(module: types.ModuleType) -> _Bindings | None:
    """The names that a module binds; None where its source cannot be read."""
    source = getattr(getattr(module.__spec__, "loader", None), "get_source", None)
    if source is None:
        return None
    try:
        text = source(module.__name__)
        tree = None if text is None else ast.parse(text)
    except (ImportError, OSError, SyntaxError, ValueError):
        return None
    if tree is None:
        return None
    bindings = _Bindings()
    bindings.visit(tree)
    return bindings


class _Bindings(ast.NodeVisitor):
    """Which names a module binds by ``def`` and ``class``, by assignment, and by import."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.assigned: set[str] = set()
        self.imported: set[str] = set()

    def _make(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        # What is bound inside it is not the module's.
        self.made.add(node.name)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _make  # noqa: N815  as ast names them

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Has names of its own."""

    def visit_Name(self, node: ast.Name) -> None:
        """A name that is assigned to."""
        if isinstance(node.ctx, ast.Store):
            self.assigned.add(node.id)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imported.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)

    visit_Import = visit_ImportFrom = _import  # noqa: N815
