"""What is said of a handler that is long at a message."""

from __future__ import annotations

from pathlib import Path

from supervisor.cli.slow import SlowAnswers, standing
from supervisor.core.status import Handling

FOLDER = Path("/work/agents")
STACK = """\
  File "/work/agents/shout.py", line 7, in on_message
    return await look_up(message.content)
  File "/work/agents/shout.py", line 12, in look_up
    await asyncio.sleep(3600)
  File "/usr/lib/python3.11/asyncio/tasks.py", line 649, in sleep
    return await future
"""


def handling(since: float, *, left_behind: bool = False, message: int = 1) -> Handling:
    return Handling(message, "c" * 24, 1, since, left_behind, STACK)


def test_it_is_said_once_of_each_attempt_after_ten_seconds() -> None:
    said: list[str] = []
    slow = SlowAnswers("shout", FOLDER, 300.0, said.append)
    slow.look([handling(100.0)], 109.0)
    assert said == []
    slow.look([handling(100.0)], 110.0)
    slow.look([handling(100.0)], 111.0)
    [line] = said
    assert line.startswith(
        "shout has been at this message for 10 s, it stands at /work/agents/shout.py:12, in look_up; save the file"
    )
    assert line.endswith("ends after 300 s")
    slow.look([handling(120.0), handling(120.0, message=2)], 131.0)
    assert len(said) == 3


def test_what_nobody_waits_for_any_more_is_not_told() -> None:
    said: list[str] = []
    SlowAnswers("shout", FOLDER, 300.0, said.append).look([handling(0.0, left_behind=True)], 100.0)
    assert said == []


def test_where_no_line_is_the_authors_the_innermost_is_told_and_none_where_there_is_none() -> None:
    assert standing(STACK, Path("/elsewhere")) == ", it stands at /usr/lib/python3.11/asyncio/tasks.py:649, in sleep"
    assert standing("", FOLDER) == ""
