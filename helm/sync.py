#!/usr/bin/env python3
"""Brings the chart in line with what it is made from; with ``--check`` only says what differs (exit 1).

- ``files/dashboards`` and ``files/rules`` are copies: Helm reads nothing outside of a chart.
- ``files/newer-values.json`` has defaults of values that some release lacked: ``--reuse-values`` brings none of them.
- ``config`` in ``values.schema.json`` comes from ``supervisor.settings.Settings``.
- The table of values in the chart's README comes from ``values.yaml`` and the schema's descriptions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic.fields import FieldInfo

from supervisor.settings import Settings, kinds

PROJECT: Final = Path(__file__).resolve().parent.parent
CHART: Final = PROJECT / "helm" / "aiwm-supervisor"
FIXTURES: Final = PROJECT / "tests" / "fixtures"
START, END = "<!-- values: written by helm/sync.py -->\n", "<!-- /values -->\n"
_DURATION: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*[smhdw]?$"
_SIZE: Final = r"^\s*[0-9]+\s*([Bb]|[KkMmGg][Ii]?[Bb])?$"


def config_schema() -> dict[str, Any]:
    """What ``config`` takes: every setting by its name without the prefix."""
    shapes = Settings.model_json_schema()["properties"]
    names = {name.upper(): _setting(field, shapes[name]) for name, field in Settings.model_fields.items()}
    return {
        "description": "The deployment's settings, `SUPERVISOR_*` without the prefix; no secrets.",
        "type": "object",
        "propertyNames": {"enum": sorted(names)},
        "properties": dict(sorted(names.items())),
    }


def _setting(field: FieldInfo, shape: dict[str, Any]) -> dict[str, Any]:
    """A setting as YAML may give it: as itself, or as the text that the environment would hold."""
    described = {"description": field.description or ""}
    readers = [getattr(mark, "func", None) for mark in field.metadata]
    optional = shape.get("anyOf", [shape])[0]
    if "enum" in shape:
        return described | {"enum": shape["enum"]}
    if kinds.listed in readers:
        return described | {"type": ["array", "string"], "items": {"type": "string"}}
    if kinds.json_object in readers:
        return described | {"type": ["object", "string"]}
    kind = optional.get("type", "string")
    if kind == "boolean":
        return described | {"enum": [True, False, "true", "false"]}
    if kind not in ("integer", "number"):
        return described | {"type": "string"}
    bounds = {name: optional[name] for name in ("minimum", "maximum", "exclusiveMinimum") if name in optional}
    text = _DURATION if kinds.duration in readers else _SIZE if kinds.size in readers else r"^[0-9]+(\.[0-9]+)?$"
    return described | {"type": [kind, "string"], "pattern": text} | bounds


def schema() -> str:
    """The schema of the values, its generated part renewed."""
    made = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    made["properties"]["config"] = config_schema()
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def rows(values: dict[str, Any], properties: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every value that can be set: its path, its default and what it means, in the order of ``values.yaml``."""
    for name, value in values.items():
        shape = properties[name]
        if isinstance(value, dict) and shape.get("additionalProperties") is False:
            yield from rows(value, shape["properties"], f"{path}{name}.")
        else:
            yield f"{path}{name}", value, shape["description"]


def newer(values_schema: dict[str, Any]) -> str:
    """The defaults of the values that the chart of some release did not have, by their paths."""
    releases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIXTURES.glob("*/made/values.json"))]
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    found = {
        path: value
        for path, value, _ in rows(values, values_schema["properties"])
        if not all(_has(release, path.split(".")) for release in releases)
    }
    return json.dumps(found, indent=2) + "\n"


def _has(values: Any, names: list[str]) -> bool:
    return not names or (isinstance(values, dict) and names[0] in values and _has(values[names[0]], names[1:]))


def table(values_schema: dict[str, Any]) -> str:
    """README's table of values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    lines = ["| value | default | |", "|---|---|---|"]
    for path, value, description in rows(values, values_schema["properties"]):
        default = json.dumps(value, ensure_ascii=False)
        lines.append(f"| `{path}` | `{default}` | {description.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def readme(values_schema: dict[str, Any]) -> str:
    """The chart's README, its table renewed."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(values_schema)}\n{END}{after}"


def wanted() -> dict[Path, str | None]:
    """Every file that this script owns, and what it has to hold; None: it must not be there."""
    copies = {CHART / "files/dashboards" / path.name: path for path in sorted((PROJECT / "grafana").glob("*.json"))}
    for name in ("alerts.yaml", "thresholds.yaml"):
        copies[CHART / "files/rules" / name] = PROJECT / "prometheus" / name
    files: dict[Path, str | None] = {path: None for path in (CHART / "files").rglob("*.*") if path not in copies}
    files |= {copy: original.read_text(encoding="utf-8") for copy, original in copies.items()}
    files[CHART / "values.schema.json"] = made = schema()
    files[CHART / "README.md"] = readme(json.loads(made))
    files[CHART / "files/newer-values.json"] = newer(json.loads(made))
    return files


def main() -> int:
    """Write what differs, or name it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, name what differs, exit 1 if anything does"
    )
    check = parser.parse_args().check
    differing = 0
    for path, text in wanted().items():
        if (path.read_text(encoding="utf-8") if path.is_file() else None) == text:
            continue
        differing += 1
        sys.stdout.write(f"{path.relative_to(PROJECT)}: {'differs; run helm/sync.py' if check else 'written'}\n")
        if check:
            continue
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
