"""What is said of this command is what its reader can type."""

from __future__ import annotations

from pathlib import Path

from supervisor.cli.local import command


def test_a_command_that_no_shell_finds_is_shown_as_it_was_started(tmp_path: Path) -> None:
    assert command(".venv/bin/supervisor", str(tmp_path)) == ".venv/bin/supervisor"
    program = tmp_path / "supervisor"
    program.write_text("")
    program.chmod(0o755)
    assert command(str(program), str(tmp_path)) == "supervisor"
    assert command("/lib/supervisor/__main__.py", "") == "supervisor"
