"""What is advised is true for where it stands: a row, a file, code, or a variable that wants a restart."""

from __future__ import annotations

import pytest

from supervisor.core.records import AgentRecord
from supervisor.doctor.cures import fault_cure, is_elsewhere, row_cure, secret_cure

ID = "a" * 24
BACK = (
    f"go back to what it was: supervisor agents rollback {ID} --to VERSION (supervisor agents history {ID} lists them)"
)


def agent(secret: str = "env:AGENT_SECRET") -> AgentRecord:
    return AgentRecord(id=ID, handler="shop", secret=secret)


@pytest.mark.parametrize(
    ("reason", "secret", "cure"),
    [
        (
            "The secret's variable AGENT_SECRET is not set in the supervisor's environment",
            "env:AGENT_SECRET",
            "mend that where the supervisor runs, and restart it",
        ),
        (
            "Handlers of package 'x' are not allowed; add it to SUPERVISOR_HANDLER_PACKAGES",
            "env:AGENT_SECRET",
            "mend that where the supervisor runs, and restart it",
        ),
        (
            "The secret's file /run/x is empty",
            "file:/run/x",
            "mend that file; it is looked at again within 30 s",
        ),
        (
            "Handler 'shop' fails to load: NameError: x (shop.py, line 3)",
            "file:/run/x",
            f"mend its code, then: supervisor agents reload {ID}",
        ),
        ("on_start of 'shop' failed: OSError", "file:/x", f"mend its code, then: supervisor agents reload {ID}"),
        (
            "Handler 'shop' needs the package 'pandas', which is not installed",
            "file:/x",
            f"install it where the supervisor runs, then: supervisor agents reload {ID}",
        ),
        (
            "There is no handler 'shpo' in /agents; did you mean shop?",
            "file:/x",
            f"{BACK}; or give it handler anew: supervisor agents update {ID} --handler HANDLER; it follows at once",
        ),
        (
            "settings: concurrency: must be positive",
            "file:/x",
            f"{BACK}; or give it settings anew: supervisor agents update {ID} --set KEY=VALUE; it follows at once",
        ),
    ],
)
def test_a_fault_is_mended_where_it_is(reason: str, secret: str, cure: str) -> None:
    assert fault_cure(reason, agent(secret)) == cure


@pytest.mark.parametrize(
    ("problem", "option"),
    [
        ("settings is not JSON (byte 1)", "--set KEY=VALUE"),
        ("labels is not a JSON object", "--label KEY=VALUE"),
        ("secret is not a reference; it must be env:NAME, file:/path or fernet:…", "--secret-env VAR"),
        ("name is not text", "--name NAME"),
        ("handler is empty", "--handler HANDLER"),
    ],
)
def test_a_broken_row_is_mended_by_a_command_that_can_be_run(problem: str, option: str) -> None:
    assert row_cure(agent(), problem).startswith(BACK)
    assert row_cure(agent(), problem).endswith(f"supervisor agents update {ID} {option}")


@pytest.mark.parametrize(
    ("reason", "elsewhere"),
    [
        ("404 Cannot POST /agents/1/connect, and not as the platform does; is API_URL right?", True),
        ("404 Cannot POST /agents/1/connect", True),
        ("401 Invalid credentials", False),
        ("404 Agent not found", False),
    ],
)
def test_who_knows_no_token_endpoint_is_not_the_platform(reason: str, elsewhere: bool) -> None:
    assert is_elsewhere(reason) == elsewhere


@pytest.mark.parametrize(
    ("secret", "cure"),
    [
        ("env:AGENT_SECRET", "change AGENT_SECRET in the supervisor's environment and restart it"),
        ("file:/run/x", f"write a new /run/x, then supervisor agents reload {ID}"),
        ("fernet:abc", f"supervisor agents update {ID} --secret-stdin"),
    ],
)
def test_a_secret_is_changed_where_it_is_kept(secret: str, cure: str) -> None:
    assert secret_cure(agent(secret)) == cure
