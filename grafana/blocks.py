"""The panels that the dashboards are made of: each with title, description, unit, data source and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model
from grafana_foundation_sdk.models import text as text_model

from grafana.colors import Colors
from grafana.promql import quantile

DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
STAT_HEIGHT: Final = 4
HEIGHT: Final = 7
#: Where values get another colour: from which value, and which.
Steps = Sequence[tuple[float | None, str]]
PLAIN: Final[Steps] = ((None, "text"),)
NO_COLORS: Final[Colors] = {}
#: Series that are zero throughout, and what is done with them: the line stays, its name goes.
ALL_ZERO: Final = {"reducer": "allIsZero", "op": "gte", "value": 0}
UNNAMED: Final = {"legend": True, "tooltip": True, "viz": False}

_AnyPanel = TypeVar(
    "_AnyPanel",
    timeseries.Panel,
    stat.Panel,
    heatmap.Panel,
    table.Panel,
    bargauge.Panel,
    statetimeline.Panel,
    text.Panel,
)


@dataclass(frozen=True)
class Target:
    """One query of a panel: the expression, and what each of its series is called.

    Args:
        exemplars: show points that lead to traces, where the data source keeps them.
    """

    expr: str
    legend: str = ""
    exemplars: bool = False


def quantiles(histogram: str, *shares: float, exemplars: bool = False) -> list[Target]:
    """Lines for some quantiles of a histogram; the first brings its exemplars, which are those of all."""
    return [
        Target(quantile(share, histogram), f"p{share * 100:g}", exemplars=exemplars and share == shares[0])
        for share in shares
    ]


def _common(panel: _AnyPanel, title: str, description: str, width: int, height: int) -> _AnyPanel:
    return (
        panel.title(title).description(description).datasource(DATASOURCE).span(width).height(height).transparent(False)
    )


def _query(target: Target, number: int) -> prometheus.Dataquery:
    made = (
        prometheus.Dataquery()
        .expr(target.expr)
        .legend_format(target.legend)
        .ref_id(chr(ord("A") + number))
        .editor_mode(prometheus_model.QueryEditorMode.CODE)
        .datasource(DATASOURCE)
    )
    return made.exemplar(True) if target.exemplars else made


def _ranges(targets: Sequence[Target]) -> list[Any]:
    return [_query(target, number).range() for number, target in enumerate(targets)]


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _fixed(color: str) -> list[model.DynamicConfigValue]:
    return [model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})]


def _mappings(texts: Mapping[str, tuple[str, str]]) -> list[model.ValueMapping]:
    options = {
        value: model.ValueMappingResult(text=shown, color=color, index=index)
        for index, (value, (shown, color)) in enumerate(texts.items())
    }
    return [model.ValueMap(options=options)]


def figure(
    title: str,
    description: str,
    unit: str,
    target: Target,
    *,
    steps: Steps = PLAIN,
    texts: Mapping[str, tuple[str, str]] | None = None,
    width: int = 3,
    decimals: int | None = None,
    instant: bool = False,
    none: str = "-",
) -> stat.Panel:
    """A figure in large digits, coloured by its thresholds, over a line of how it came to be.

    Args:
        texts: what to show instead of certain values, and in which colour.
        instant: ask for the present value alone: for what is summed over the dashboard's range.
        none: what to show while there is no value.
    """
    query = _query(target, 0).instant() if instant else _query(target, 0).range()
    panel = (
        _common(stat.Panel(), title, description, width, STAT_HEIGHT)
        .unit(unit)
        .with_target(query)
        .thresholds(_thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .color_mode(shapes.BigValueColorMode.VALUE)
        .graph_mode(shapes.BigValueGraphMode.NONE if instant or texts else shapes.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value(none)
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return panel.mappings(_mappings(texts)) if texts else panel


def graph(
    title: str,
    description: str,
    unit: str,
    *targets: Target,
    width: int = 8,
    stacked: bool = False,
    limit: float | None = None,
    top: float | None = None,
    colors: Colors = NO_COLORS,
    step: str | None = None,
    decimals: int | None = None,
    rare: bool = False,
) -> timeseries.Panel:
    """Lines over time, from zero up.

    Args:
        stacked: areas on top of each other, for parts of a whole.
        limit: a dashed line there; what is above it wants looking at.
        top: the axis ends there at least.
        step: the least time between two points.
        decimals: so many for every value, where amounts of different sizes stand in one list.
        rare: most lines are zero most of the time; those that are zero throughout are not named.
    """
    panel = (
        _common(timeseries.Panel(), title, description, width, HEIGHT)
        .unit(unit)
        .targets(_ranges(targets))
        .min(0)
        .line_width(1)
        .fill_opacity(_fill(targets, stacked=stacked))
        .show_points(shapes.VisibilityMode.AUTO)
        .span_nulls(False)
        .thresholds(_thresholds(((None, "green"), *(((limit, "red"),) if limit is not None else ()))))
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    if limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds_style(style)
    if top is not None:
        panel = panel.axis_soft_max(top)
    if step is not None:
        panel = panel.interval(step)
    if decimals is not None:
        panel = panel.decimals(decimals)
    return _with_lines(panel, colors, rare=rare)


def _legend() -> common.VizLegendOptions:
    """The names of lines, each with its last value."""
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(shapes.LegendDisplayMode.LIST)
        .placement(shapes.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull"])
    )


def _with_lines(panel: timeseries.Panel, colors: Colors, *, rare: bool) -> timeseries.Panel:
    """The colours of lines by their names; ``rare``: those that are zero throughout are not named."""
    for name, color in colors.items():
        panel = panel.override_by_name(name, _fixed(color))
    if rare:
        hidden = model.DynamicConfigValue(id_val="custom.hideFrom", value=dict(UNNAMED))
        panel = panel.with_override(model.MatcherConfig(id_val="byValue", options=dict(ALL_ZERO)), [hidden])
    return panel


def _fill(targets: Sequence[Target], *, stacked: bool) -> int:
    """How much is seen of the area under a line, in per cent: nothing where areas of several lines would mix."""
    if stacked:
        return 55
    return 0 if targets[1:] or "{{" in targets[0].legend else 8


def heat(title: str, description: str, unit: str, target: Target, *, width: int = 8) -> heatmap.Panel:
    """How many observations of a histogram fell into each bucket, over time."""
    query = _query(Target(target.expr, "{{le}}"), 0).range().format(prometheus_model.PromQueryFormat.HEATMAP)
    color = heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    return (
        _common(heatmap.Panel(), title, description, width, HEIGHT)
        .unit(unit)
        .with_target(query)
        .calculate(False)
        .color(color.fill("dark-orange").exponent(0.5))
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(shapes.AxisPlacement.LEFT))
        .cell_gap(1)
        .show_value(shapes.VisibilityMode.NEVER)
        .thresholds(_thresholds(PLAIN))
        .show_legend()
    )


def bars(
    title: str,
    description: str,
    unit: str,
    target: Target,
    *,
    steps: Steps,
    width: int = 8,
    top: float | None = None,
    decimals: int | None = None,
) -> bargauge.Panel:
    """The present value of each series as a bar, the longest first where the expression sorts."""
    panel = (
        _common(bargauge.Panel(), title, description, width, HEIGHT)
        .unit(unit)
        .with_target(_query(target, 0).instant())
        .min(0)
        .thresholds(_thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("-")
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return panel if top is None else panel.max(top)


def timeline(
    title: str, description: str, target: Target, *, texts: Mapping[str, tuple[str, str]], width: int = 8
) -> statetimeline.Panel:
    """Which of a few values a series had, over time."""
    return (
        _common(statetimeline.Panel(), title, description, width, HEIGHT)
        .unit("none")
        .targets(_ranges([target]))
        .mappings(_mappings(texts))
        .thresholds(_thresholds(PLAIN))
        .merge_values(True)
        .legend(common.VizLegendOptions().show_legend(True).placement(shapes.LegendPlacement.BOTTOM))
        .show_value(shapes.VisibilityMode.AUTO)
    )


@dataclass(frozen=True)
class Column:
    """One column of a table: a label where it has no expression, else the value of one.

    Args:
        link: where a click leads; ``${__value.text}`` is what the cell shows.
        decimals: so many in every row.
    """

    name: str
    label: str = ""
    expr: str = ""
    unit: str = "none"
    steps: Steps = ()
    link: str = ""
    decimals: int | None = None


def listing(
    title: str, description: str, *columns: Column, width: int = 8, none: str = "-", unit: str = "none"
) -> table.Panel:
    """A table of present values: the series of all columns are joined by their labels."""
    values = [column for column in columns if column.expr]
    queries = [
        _query(Target(column.expr), number).instant().format(prometheus_model.PromQueryFormat.TABLE)
        for number, column in enumerate(values)
    ]
    # Grafana calls the value of the only query "Value", those of several "Value #A", "Value #B" …
    fields = {column.name: f"Value #{chr(ord('A') + n)}" if values[1:] else "Value" for n, column in enumerate(values)}
    fields |= {column.name: column.label for column in columns if not column.expr}
    names = {fields[column.name]: column.name for column in columns}
    # … but "Value" again where only one of them brings something: then it is the first, which has the most rows.
    names["Value"] = values[0].name
    order = [column.name for column in columns]
    organised = {
        "excludeByName": {"Time": True},
        "includeByName": dict.fromkeys(names, True),
        "indexByName": {field: order.index(name) for field, name in names.items()},
        "renameByName": names,
    }
    panel = (
        _common(table.Panel(), title, description, width, HEIGHT)
        .unit(unit)
        .targets(list(queries))
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(model.DataTransformerConfig(id_val="organize", options=organised))
        .thresholds(_thresholds(PLAIN))
        .cell_height(shapes.TableCellHeight.SM)
        .no_value(none)
    )
    for column in columns:
        if properties := _column(column):
            panel = panel.override_by_name(column.name, properties)
    return panel


def _column(column: Column) -> list[model.DynamicConfigValue]:
    properties = []
    if column.expr:
        properties.append(model.DynamicConfigValue(id_val="unit", value=column.unit))
        # Not the table's own words for having no rows.
        properties.append(model.DynamicConfigValue(id_val="noValue", value="-"))
    if column.decimals is not None:
        properties.append(model.DynamicConfigValue(id_val="decimals", value=column.decimals))
    if column.steps:
        steps = [{"value": value, "color": color} for value, color in column.steps]
        properties.append(model.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": steps}))
        properties.append(model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
        properties.append(model.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}))
    if column.link:
        links = [{"title": "Show", "url": column.link}]
        properties.append(model.DynamicConfigValue(id_val="links", value=links))
    return properties


def note(title: str, description: str, content: str, *, width: int = 8, height: int = STAT_HEIGHT) -> text.Panel:
    """Words, in Markdown."""
    return _common(text.Panel(), title, description, width, height).mode(text_model.TextMode.MARKDOWN).content(content)
