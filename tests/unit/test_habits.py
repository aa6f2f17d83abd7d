"""How tests are written here: they reach into nobody, patch nothing of ours, and do not sleep for seconds.

CONTRIBUTING says so. A test of each check shows first that it finds what it is for.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator
from textwrap import dedent

import pytest

from tests.support.paths import ROOT

#: The seconds that a test may sleep end here. A minute and more stands for what does not end by itself.
LONG_SECONDS, ENDLESS_SECONDS = 0.5, 60.0
#: What is no test: benchmarks and pictures measure traffic while it passes, fixtures are what a release was given.
_NO_TESTS = ("tests/benchmarks/", "tests/fixtures/", "tests/pictures.py")
#: Handlers that are played on the virtual clock, where an hour takes no time.
_VIRTUAL_TIME = ("tests/support/stage.py",)
#: What libraries call private: a named tuple's own method, the end of aiosqlite's threads, and what the test of the
#: transport's libraries is there to watch.
_FOREIGN = frozenset({"_replace", "_STOP_RUNNING_SENTINEL", "_ssl", "_response", "_asyncio_future_blocking"})
_OURS = frozenset({"supervisor", "agents", "grafana", "tests"})
_PATCHING = frozenset({"setattr", "delattr", "setitem", "delitem", "patch", "__setattr__"})
_PARTS_OF_PATCH = frozenset({"object", "dict", "multiple"})
_BY_NAME = frozenset({"getattr", "setattr", "delattr", "hasattr"})
_SLEEP = re.compile(r"\bsleep\(\s*(\d[\d._e]*)\s*\)")


def sources() -> Iterator[tuple[str, str]]:
    """Each module of the tests by its path, and its text."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(_NO_TESTS):
            yield name, path.read_text(encoding="utf-8")


parse = functools.cache(ast.parse)


def imports(tree: ast.AST) -> dict[str, str]:
    """The names that a module imports, and from which top-level package."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(one.asname or one.name.split(".")[0]): one.name.split(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {one.asname or one.name: (node.module or "").split(".")[0] for one in node.names}
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def root_of(node: ast.expr) -> str:
    """The name that an expression such as ``a.b[0].c`` begins with; empty where there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _called(node: ast.Call) -> str:
    """The last name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def private_access(source: str) -> Iterator[str]:
    """Private names of somebody else: read, imported, or named as a text."""
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = ast.unparse(node.value) in ("self", "cls", "super()")
            if not own and node.attr not in _FOREIGN:
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] == "supervisor":
                yield from (one.name for one in node.names if is_private(one.name))
        elif isinstance(node, ast.Call) and _called(node) in _BY_NAME and len(node.args) > 1:
            name = node.args[1]
            yield from [ast.unparse(node)] if isinstance(name, ast.Constant) and is_private(str(name.value)) else []


def inherited_access(source: str) -> Iterator[str]:
    """Private names that a test's class takes from a class of ours."""
    tree = parse(source)
    known = imports(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or not any(known.get(root_of(one)) == "supervisor" for one in node.bases):
            continue
        named = [one for one in ast.walk(node) if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "self"]
        made = {one.attr for one in named if isinstance(one.ctx, ast.Store)}
        made |= {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
        yield from {f"{node.name}.{one.attr}" for one in named if is_private(one.attr) and one.attr not in made}


def patches(source: str) -> Iterator[str]:
    """What of ours a test replaces in place: by pytest, by mock, or by an assignment."""
    tree = parse(source)
    known = imports(tree)

    def is_foreign(target: ast.expr) -> bool:
        if isinstance(target, ast.Constant):
            return str(target.value).split(".")[0] not in _OURS
        return known.get(root_of(target), "tests") not in _OURS

    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = _called(node)
            patching = called in _PATCHING or (called in _PARTS_OF_PATCH and "patch" in ast.unparse(node.func))
            if called == "setattr" and isinstance(node.func, ast.Name):
                patching = known.get(root_of(node.args[0])) in _OURS
            mocking = called.endswith("Mock") or called == "create_autospec"
            if mocking or (patching and not (node.args and is_foreign(node.args[0]))):
                yield ast.unparse(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and known.get(root_of(target)) in _OURS:
                    yield ast.unparse(node)


def is_soak(node: ast.AST) -> bool:
    """Whether a test runs only when it is asked for."""
    marks = getattr(node, "decorator_list", []) if not isinstance(node, ast.Assign) else [node.value]
    return any(".soak" in ast.unparse(one) for one in marks)


def long_sleeps(source: str) -> Iterator[str]:
    """Sleeps of half a second and more, in handlers and programs that are texts too; those of ``soak`` aside."""
    tree = parse(source)
    if any(isinstance(node, ast.Assign) and is_soak(node) for node in tree.body):
        return
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    known = imports(tree)
    for node in _walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (found[0] for found in _SLEEP.finditer(node.value) if _is_long(float(found[1])))
        elif isinstance(node, ast.Call) and _called(node) == "sleep" and node.args:
            by_the_machine = known.get(root_of(node.func)) in ("asyncio", "time")
            if by_the_machine and _is_long(_seconds(node.args[0], constants) or 0.0):
                yield ast.unparse(node)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not is_soak(child):
            yield from _walk(child)


def _seconds(node: ast.expr, constants: dict[str, ast.expr]) -> float | None:
    """What an expression comes to as far as its numbers tell, the module's constants among them; None: they do not."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name) if name in constants:
            return _seconds(constants[name], {})
        case ast.Call(args=args):
            return max((_seconds(one, constants) or 0.0 for one in args), default=None)
        case ast.BinOp(left=left, op=op, right=right):
            one, other = _seconds(left, constants), _seconds(right, constants)
            if one is not None and other is not None:
                return float(eval(ast.unparse(ast.BinOp(ast.Constant(one), op, ast.Constant(other)))))
            return one if other is None else other if isinstance(op, ast.Add | ast.Sub) else None
    return None


def _is_long(seconds: float) -> bool:
    return LONG_SECONDS <= seconds < ENDLESS_SECONDS


Check = Callable[[str], Iterator[str]]


@pytest.mark.parametrize("check", [private_access, inherited_access, patches])
def test_no_test_reaches_into_what_it_tests(check: Check) -> None:
    assert [f"{name}: {fault}" for name, source in sources() for fault in check(source)] == []


def test_no_test_sleeps_for_seconds() -> None:
    slow = [(name, fault) for name, source in sources() if name not in _VIRTUAL_TIME for fault in long_sleeps(source)]
    assert slow == []


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (private_access, "made = Agent()\nmade._record"),
        (private_access, "self.agent._record"),
        (private_access, "from supervisor.fleet.agent import _Words"),
        (private_access, "getattr(agent, '_record')"),
        (inherited_access, "from supervisor import A\nclass B(A):\n    def m(self):\n        return self._record"),
        (patches, "from supervisor.a import A\ndef test(monkeypatch):\n    monkeypatch.setattr(A, 'close', None)"),
        (patches, "def test(monkeypatch, made):\n    monkeypatch.setattr(made.registry, 'agents', None)"),
        (patches, "def test(monkeypatch):\n    monkeypatch.setattr('supervisor.a.SECONDS', 1)"),
        (patches, "from unittest import mock\nfrom supervisor.a import A\nwith mock.patch.object(A, 'b'):\n    pass"),
        (patches, "object.__setattr__(made, 'a', 1)"),
        (patches, "from unittest.mock import AsyncMock\nmade = AsyncMock()"),
        (patches, "from supervisor import a\na.SECONDS = 1"),
        (long_sleeps, f"import asyncio\nasync def test():\n    await asyncio.sleep({LONG_SECONDS})"),
        (long_sleeps, "import time\ntime.sleep(begun + 5.1 - time.monotonic())"),
        (long_sleeps, "import asyncio\nWAIT = 2\nasync def test():\n    await asyncio.sleep(WAIT)"),
        (long_sleeps, f"HANDLER = 'time.sleep({1})'"),
    ],
)
def test_a_check_finds_what_it_is_for(check: Check, source: str) -> None:
    assert list(check(dedent(source)))


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (private_access, "class A:\n    def m(self):\n        return self._own"),
        (inherited_access, "from supervisor import A\nclass B(A):\n    def m(self):\n        self._own = 1"),
        (patches, "import os\ndef test(monkeypatch):\n    monkeypatch.setattr(os, 'geteuid', None)"),
        (patches, "import sys\ndef test(monkeypatch):\n    monkeypatch.setitem(sys.modules, 'a', None)"),
        (long_sleeps, "import asyncio\nasync def test():\n    await asyncio.sleep(0.1)"),
        (long_sleeps, "import asyncio\nasync def test():\n    await asyncio.sleep(3600)"),
        (long_sleeps, "import asyncio\n@pytest.mark.soak\nasync def test():\n    await asyncio.sleep(20)"),
    ],
)
def test_a_check_finds_nothing_else(check: Check, source: str) -> None:
    assert not list(check(dedent(source)))
