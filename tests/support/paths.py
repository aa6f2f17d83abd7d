"""Where things are in this repository."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
RECORDINGS: Final = ROOT / "tests" / "recordings"
#: How a package of types is checked from outside; what mypy found is kept, so that only the first test pays for all.
STRICT_MYPY: Final = ("mypy", "--strict", "--config-file=", f"--cache-dir={ROOT / '.mypy_cache' / 'outside'}")
