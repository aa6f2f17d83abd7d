"""The migrations of a version that is to come."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

from supervisor.store.sqlite.migrate import OURS, Migrations

COMING = "9999"
_SCRIPT = '''
"""A coming revision."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{revision}", "{before}", None, None

def upgrade():
{steps}
'''


def coming_revision(scripts: Path, steps: str) -> Migrations:
    """Our migrations and one more, written into the folder ``scripts``.

    Args:
        steps: what it does, as lines of Python with Alembic's ``op`` and SQLAlchemy's ``sa``.
    """
    (scripts / "versions").mkdir(parents=True)
    for source in (OURS.scripts / "env.py", *(OURS.scripts / "versions").glob("v*.py")):
        (scripts / source.relative_to(OURS.scripts)).write_text(source.read_text())
    script = _SCRIPT.format(revision=COMING, before=OURS.head, steps=indent(steps, "    "))
    (scripts / "versions" / f"v{COMING}_coming.py").write_text(script)
    return Migrations(scripts, (*OURS.revisions, COMING))
