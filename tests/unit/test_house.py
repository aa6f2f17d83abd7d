"""The house stays one that can be seen: what each package says of itself, and how large things may grow.

The bounds are those of CONTRIBUTING. A test of each shows first that its check finds what it is for.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.paths import ROOT

SUPERVISOR = ROOT / "supervisor"
#: What the bounds hold for: the package, the bundled handlers and what builds the dashboards.
BOUNDED = (SUPERVISOR, ROOT / "agents", ROOT / "grafana")
MAX_LOOSE_FILES = 6
MAX_NAMES = 10
MAX_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_METHODS = 25
MAX_PARAMETERS = 7
#: Rooms whose modules each have a test that mirrors them.
ENGINE = ("fleet", "messages", "platform", "store")
#: Modules that are parts of a whole which one suite asks through its face: the suite's main file.
ASKED_BY = {
    "supervisor/store/postgres/database.py": "tests/unit/store/conformance/test_committing.py",
    "supervisor/store/postgres/dialect.py": "tests/unit/store/postgres/test_opening.py",
    "supervisor/store/postgres/statement.py": "tests/unit/store/postgres/test_writer.py",
    "supervisor/store/registry.py": "tests/unit/store/conformance/test_agents.py",
    "supervisor/store/sql/rotation.py": "tests/integration/store/test_keys_rotate.py",
    "supervisor/store/sql/sealed.py": "tests/integration/store/test_keys_rotate.py",
    "supervisor/store/sqlite/database.py": "tests/unit/store/conformance/test_committing.py",
    "supervisor/store/sqlite/dialect.py": "tests/unit/store/sqlite/test_opening.py",
    "supervisor/store/sqlite/driver.py": "tests/integration/store/test_storage.py",
    "supervisor/store/sqlite/inspection.py": "tests/unit/store/sqlite/test_opening.py",
}
#: Rooms whose signatures are public, or made of a command's options.
_FREE_SIGNATURES = ("supervisor/cli/", "supervisor/admin/", "supervisor/testing/")


def sources(*folders: Path) -> Iterator[tuple[str, str]]:
    """Each module in some folders, else of the supervisor, by its path, and its text."""
    for path in sorted(path for folder in folders or (SUPERVISOR,) for path in folder.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def packages() -> list[str]:
    """Each package of the supervisor by its path, but for folders of scripts that Alembic finds by itself."""
    found = [name.removesuffix("/__init__.py") for name, _ in sources() if name.endswith("/__init__.py")]
    return [name for name in found if "/migrations" not in name]


def package_faults(source: str) -> Iterator[str]:
    """What a package leaves unsaid: what it is for, what it may import, what belongs elsewhere, what it offers."""
    tree = ast.parse(source)
    text = ast.get_docstring(tree) or ""
    purpose, _, rest = text.partition("\n\n")
    if not purpose:
        yield "does not say what it is for"
    if "import" not in rest:
        yield "does not say what it may import"
    if "belong" not in rest:
        yield "does not say what belongs elsewhere"
    names = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    if not names:
        yield "has no __all__"
    elif len(ast.literal_eval(names[0])) > MAX_NAMES:
        yield f"offers more than {MAX_NAMES} names"


def long_files(source: str) -> Iterator[str]:
    """A module of more lines than one idea takes."""
    if (lines := len(source.splitlines())) > MAX_LINES:
        yield f"{lines} lines"


def long_functions(source: str) -> Iterator[str]:
    """Functions of too many lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines"


def large_classes(source: str) -> Iterator[str]:
    """Classes that are several things."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) for child in node.body)
            if methods > MAX_METHODS:
                yield f"{node.name} has {methods} methods"


def wide_constructors(source: str) -> Iterator[str]:
    """Classes whose constructor takes too much; exceptions aside."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or node.name.endswith("Error"):
            continue
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name == "__init__":
                given = child.args
                taken = len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1
                if taken > MAX_PARAMETERS:
                    yield f"{node.name} takes {taken}"


Check = Callable[[str], Iterator[str]]
CHECKS: tuple[Check, ...] = (long_files, long_functions, large_classes, wide_constructors)


def over(check: Check) -> set[str]:
    """What a check complains of, as ``path: complaint``."""
    return {
        f"{name}: {fault}"
        for name, source in sources(*BOUNDED)
        if check is not wide_constructors or not name.startswith(_FREE_SIGNATURES)
        for fault in check(source)
    }


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_over_its_bound(check: Check) -> None:
    assert over(check) == set()


@pytest.mark.parametrize("package", packages())
def test_a_package_says_what_it_is_for_and_offers_few_names(package: str) -> None:
    source = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    found = set(package_faults(source))
    # The package above all offers its rooms: there is nothing to import from it.
    assert found == ({"has no __all__"} if package == "supervisor" else set())


def test_no_line_is_drawn_where_a_file_wants_to_be_two() -> None:
    drawn = [
        name for name, text in sources(*BOUNDED) if any(line.lstrip().startswith("# ──") for line in text.splitlines())
    ]
    assert not drawn


def is_declaration(tree: ast.AST) -> bool:
    """Whether a module only declares: without a branch there is nothing in it that could go wrong."""
    branches = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.IfExp, ast.Match, ast.BoolOp, ast.comprehension)
    return not any(isinstance(node, branches) for node in ast.walk(tree))


def engine_modules() -> Iterator[str]:
    """Each module of the engine with something in it that a test can be about, by its path."""
    for name, source in sources():
        room, _, rest = name.removeprefix("supervisor/").partition("/")
        told = rest.endswith("__init__.py") or "migrations/" in rest
        if room in ENGINE and not told and not is_declaration(ast.parse(source)):
            yield name


@cache
def asked_in(room: str) -> frozenset[str]:
    """What the tests of a room are about: the names of their files, and the modules that they import."""
    found: set[str] = set()
    for kind in ("unit", "integration"):
        for path in (ROOT / "tests" / kind / room).rglob("test_*.py"):
            found.add(path.name)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    return frozenset(found)


def has_mirror(name: str) -> bool:
    """Whether a test of a module's room has its name, that of its package with its own, or imports it."""
    room, *packages, module = name.removeprefix("supervisor/").removesuffix(".py").split("/")
    names = {f"test_{module}.py", *(f"test_{package}_{module}.py" for package in packages)}
    return bool(asked_in(room) & {*names, name.removesuffix(".py").replace("/", ".")})


@pytest.mark.parametrize("name", list(engine_modules()))
def test_a_module_of_the_engine_has_a_test_that_mirrors_it(name: str) -> None:
    if name in ASKED_BY:
        assert not has_mirror(name), "it has one by now: its line in ASKED_BY can go"
        assert (ROOT / ASKED_BY[name]).is_file()
    else:
        assert has_mirror(name)


def test_few_files_stand_loose() -> None:
    loose = [path.name for path in SUPERVISOR.iterdir() if path.is_file() and path.name != "py.typed"]
    assert len(loose) <= MAX_LOOSE_FILES, loose


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (long_files, "x = 1\n" * (MAX_LINES + 1)),
        (long_functions, "async def work():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
        (large_classes, "class A:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(MAX_METHODS + 1))),
        (wide_constructors, "class A:\n    def __init__(self, a, b, c, d, *, e, f, g, h): ..."),
        (package_faults, '"""Only what it is for."""\n__all__ = []'),
        (package_faults, '"""For this.\n\nMay import all. That belongs there.\n"""'),
        (package_faults, '"""For this.\n\nMay import all. That belongs there.\n"""\n__all__ = [' + "'a', " * 11 + "]"),
    ],
)
def test_a_check_finds_what_it_is_for(check: Check, source: str) -> None:
    assert list(check(dedent(source)))


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (long_files, "x = 1\n" * MAX_LINES),
        (long_functions, "def work():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)),
        (large_classes, "class A:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(MAX_METHODS))),
        (wide_constructors, "class A:\n    def __init__(self, a, b, c, d, *, e, f, g): ..."),
        (wide_constructors, "class AnError(Exception):\n    def __init__(self, a, b, c, d, *, e, f, g, h): ..."),
        (package_faults, '"""For this.\n\nMay import all. That belongs there.\n"""\n__all__ = ["a"]'),
    ],
)
def test_a_check_finds_nothing_else(check: Check, source: str) -> None:
    assert not list(check(dedent(source)))
