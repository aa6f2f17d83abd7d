"""Prints the project's dependencies and those of some extras, one a line: ``python requirements.py llm,otel``.

The Dockerfile installs them before the project itself is there, so that the layer outlives a change of its code.
"""

import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, object], extras: list[str]) -> list[str]:
    """The requirements of ``project``, a pyproject.toml's table of that name.

    Raises:
        KeyError: there is no such extra.
    """
    optional = project["optional-dependencies"]
    assert isinstance(optional, dict)
    lists = [project["dependencies"], *(optional[extra] for extra in extras)]
    return [line for lines in lists if isinstance(lines, list) for line in lines]


def main() -> None:
    """Print those of the pyproject.toml in the working directory."""
    wanted = [extra for extra in sys.argv[1].split(",") if extra] if len(sys.argv) > 1 else []
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    try:
        print("\n".join(requirements(project, wanted)))
    except KeyError as error:
        sys.exit(f"there is no extra {error}; there are: {', '.join(project['optional-dependencies'])}")


if __name__ == "__main__":
    main()
