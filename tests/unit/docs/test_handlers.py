"""What docs/handlers.md tells authors is so."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from supervisor.handler import Context
from supervisor.handlers.review import AWAITED
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "handlers.md").read_text(encoding="utf-8")


def test_the_table_of_ctx_says_which_calls_are_awaited_or_entered() -> None:
    table = TEXT.partition("`ctx` has the")[2].partition('<a id="memory">')[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    calls = re.findall(r"`(?:(await|with) )?(\w+)\(", " ".join(cells))
    known = {name for name, _ in inspect.getmembers(Context, inspect.isfunction) if not name.startswith("_")}
    assert {name for _, name in calls} <= known
    assert {name for how, name in calls if how == "await"} == AWAITED
    managers = {name for name in known if "AbstractContextManager" in str(inspect.signature(getattr(Context, name)))}
    assert {name for how, name in calls if how == "with"} == managers


async def test_the_example_of_a_whole_message_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = [
        block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "message = Message(" in block
    ]
    (tmp_path / "agents").mkdir()
    said = "f'{message.sender.name}: {message.content} {message.attachments[0]}'"
    (tmp_path / "agents" / "shout.py").write_text(f"async def on_message(message, ctx):\n    return {said}\n")
    monkeypatch.chdir(tmp_path)
    code: CodeType = compile(example, "handlers.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {}
    await eval(code, names)
    assert names["reply"].content == "Ann: What is this? https://example.com/cat.png"
