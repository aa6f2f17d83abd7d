"""What code, tests and documents point at is there: files, headings, tests. Nothing points out of the repository."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

#: Where text of ours lies; what is installed, built or cached lies elsewhere.
_FOLDERS = (
    ".ci",
    "agents",
    "deploy",
    "docs",
    "examples",
    "grafana",
    "helm",
    "prometheus",
    "supervisor",
    "tests",
)
_SUFFIXES = frozenset(
    {
        "",
        ".conf",
        ".css",
        ".html",
        ".js",
        ".json",
        ".jsonl",
        ".md",
        ".mjs",
        ".py",
        ".sh",
        ".tpl",
        ".toml",
        ".txt",
        ".yaml",
    }
)
#: Names of documents that are not in the repository, in the ways in which a sentence refers to them.
_OUTSIDE = re.compile(
    r"\b(?:" + "|".join(("DES" + "IGN", "PROTO" + "COL", "RELIA" + "BILITY", "STY" + "LE")) + r")"
    r"(?:\.md\b|\s*\u00a7|\s+R\d|\s+says|: | ?\))|\(\u00a7"
)
_FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_ID = re.compile(r"""<a\s+(?:id|name)=["']([^"']+)["']""")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_DOCUMENT = re.compile(r"(?<![\w/.-])docs/[\w/-]+\.md(?:#[\w-]+)?")
_ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):`~?([\w.]+)`")
_DEFINED = r"^\s*(?:(?:async )?def|class) {0}\b|^\s*(?:self\.)?{0}\s*[:=]"
_TEST = re.compile(r"\btests/[\w/]+\.py::(\w+)")
_PATH = re.compile(r"`((?:agents|deploy|docs|examples|grafana|helm|prometheus|supervisor|tests)/[\w./-]*)(?:::\w+)?`")


def _texts() -> Iterator[tuple[str, str]]:
    """Every text file of ours, by its path from the root."""
    found = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*")]
    # What coverage leaves behind has no ending either.
    beside = [path for path in ROOT.glob("*.*") if not path.name.startswith(".coverage")]
    for path in sorted([*found, *beside, ROOT / "Dockerfile"]):
        if path.suffix in _SUFFIXES and path.is_file() and {"__pycache__", "node_modules"}.isdisjoint(path.parts):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


TEXTS = dict(_texts())
DOCUMENTS = sorted(name for name in TEXTS if name.endswith(".md"))


@cache
def anchors(name: str) -> frozenset[str]:
    """What a link may name in a document: the slugs that GitHub makes of its headings, and ids that it sets itself."""
    text = _FENCE.sub("", TEXTS[name])
    slugs: Counter[str] = Counter()
    found = set(_ID.findall(text))
    for heading in _HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{slugs[slug]}" if slugs[slug] else slug)
        slugs[slug] += 1
    return frozenset(found)


def complaint(target: Path, anchor: str) -> str:
    """What is wrong with a reference to a file and, where one is named, a place in it; empty where nothing is."""
    if not target.exists():
        return "no such file"
    if not anchor:
        return ""
    name = target.relative_to(ROOT).as_posix()
    return "" if name in TEXTS and anchor in anchors(name) else "no such heading"


def _outside(text: str) -> list[str]:
    return [text[found.start() : found.end() + 10] for found in _OUTSIDE.finditer(text)]


def test_references_to_documents_lead_somewhere() -> None:
    wrong, seen = [], 0
    for name, text in TEXTS.items():
        for reference in _DOCUMENT.findall(text):
            seen += 1
            file, _, anchor = reference.partition("#")
            if found := complaint(ROOT / file, anchor):
                wrong.append(f"{name}: {reference}: {found}")
    assert not wrong, "\n".join(wrong)
    assert seen > 10


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_of_a_document_lead_somewhere(name: str) -> None:
    text = _CODE.sub("", _FENCE.sub("", TEXTS[name]))
    wrong = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        here = ROOT / name
        if found := complaint((here.parent / file).resolve() if file else here, anchor):
            wrong.append(f"{link}: {found}")
    assert not wrong


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_a_document_names_exist(name: str) -> None:
    """Named from the root of the repository, or from the document's own folder."""
    named = _PATH.findall(_FENCE.sub("", TEXTS[name]))
    folders = (ROOT, (ROOT / name).parent)
    assert not [path for path in named if not any((folder / path).exists() for folder in folders)]


def test_tests_that_are_named_exist() -> None:
    wrong = []
    for name, text in TEXTS.items():
        for found in _TEST.finditer(text):
            file, test = found.group().split("::")
            if not re.search(rf"^(?:async )?def {test}\(", TEXTS.get(file, ""), re.MULTILINE):
                wrong.append(f"{name}: {found.group()}")
    assert not wrong, "\n".join(wrong)


def _is_there(path: str) -> bool:
    """Whether a dotted path from the top is a module, or something in one."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def _is_known(name: str, file: str) -> bool:
    """Whether a module knows a name that its docstrings link to: it has the name, or something of its own has."""
    module = importlib.import_module(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    first, _, _ = name.partition(".")
    return hasattr(module, first) or bool(re.search(_DEFINED.format(first), TEXTS[file], re.MULTILINE))


def test_names_that_docstrings_link_to_exist() -> None:
    wrong, seen = [], 0
    for file, text in TEXTS.items():
        if not file.endswith(".py"):
            continue
        package = file.rpartition("/")[0].replace("/", ".")
        for found in _ROLE.findall(text):
            seen += 1
            name = f"{package}{found}" if found.startswith(".") else found
            from_the_top = name.startswith(("supervisor.", "tests."))
            if not (_is_there(name) if from_the_top else not file.startswith("supervisor/") or _is_known(name, file)):
                wrong.append(f"{file}: {name}")
    assert not wrong, "\n".join(wrong)
    assert seen > 100


def test_nothing_refers_to_documents_outside_of_the_repository() -> None:
    wrong = {name: found for name, text in TEXTS.items() if (found := _outside(text))}
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        "(DES" + "IGN \u00a74)",
        "PROTO" + "COL.md",
        "RELIA" + "BILITY R7",
        "(RELIA" + "BILITY)",
        "STY" + "LE: names",
        "(\u00a73)",
    ],
)
def test_a_reference_to_the_outside_is_found(text: str) -> None:
    assert _outside(text)


@pytest.mark.parametrize(
    "text", ["RFC 6455 \u00a77.4", "RELIA" + "BILITY_REPORT", "PROTO" + "COL_TLS", "a `docs/protocol.md`"]
)
def test_what_is_no_such_reference_is_let_through(text: str) -> None:
    assert not _outside(text)


def test_headings_are_called_as_github_calls_them() -> None:
    assert {"1-tokens", "75-heartbeat-by-rest", "9-display"} <= anchors("docs/protocol.md")
    assert {f"r{number}" for number in range(1, 25)} <= anchors("docs/faults.md")
