"""What all dashboards have in common: variables, annotations, links, and panels laid out row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from grafana.blocks import DATASOURCE
from grafana.promql import SCOPE, TARGET, series

TAG: Final = "aiwm-supervisor"
FLEET, AGENT, TOKENS = "aiwm-fleet", "aiwm-agent", "aiwm-tokens"
#: Stands for every value, and for no missing label.
ALL: Final = ".+"
#: The same where the label may be missing: who has one cluster gives it no name.
ALL_OR_NONE: Final = ".*"
INFO: Final = "supervisor_agent_info"
#: An agent's id as the value and its name, if it has one, as the text, out of a series as Grafana writes it.
NAMED_AGENT: Final = '/[{,]agent="(?<value>[^"]+)"(?:.*,name="(?<text>[^"]+)")?/'
#: What a link hands over to the other dashboard.
KEPT: Final = (
    "${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}&${job:queryparam}&${instance:queryparam}"
    "&${handler:queryparam}&${__url_time_range}"
)
AGENT_LINK: Final = f"/d/{AGENT}?var-agent=${{__value.text}}&{KEPT}"


def _choice(name: str, label: str, description: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .query(query)
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _several(choice: dashboard.QueryVariable, everything: str = ALL) -> dashboard.QueryVariable:
    option = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return choice.multi(True).include_all(True).all_value(everything).current(option)


def variables() -> list[Any]:
    """Which data source, clusters, namespaces, jobs, instances and handlers the dashboard shows."""
    asked = "supervisor_build_info{{{}}}, {}"
    cluster, namespace, job, _ = SCOPE
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _several(
            _choice("cluster", "Cluster", "Where there are several.", "label_values(supervisor_build_info, cluster)"),
            ALL_OR_NONE,
        ),
        _several(
            _choice("namespace", "Namespace", "Of Kubernetes.", f"label_values({asked.format(cluster, 'namespace')})"),
            ALL_OR_NONE,
        ),
        _several(
            _choice(
                "job",
                "Job",
                "Scrape jobs of Prometheus.",
                f"label_values({asked.format(', '.join((cluster, namespace)), 'job')})",
            )
        ),
        _several(
            _choice(
                "instance",
                "Instance",
                "Supervisors.",
                f"label_values({asked.format(', '.join((cluster, namespace, job)), 'instance')})",
            )
        ),
        _several(
            _choice(
                "handler",
                "Handler",
                "Applies to messages, tokens and cost; connections and the process know no handler.",
                f"label_values(supervisor_messages_received_total{{{', '.join(SCOPE)}}}, handler)",
            )
        ),
    ]


def agent_variable() -> dashboard.QueryVariable:
    """Which agent."""
    within = ", ".join(SCOPE)
    known, counted = (f"last_over_time({name}{{{within}}}[$__range])" for name in (INFO, "supervisor_agent_up"))
    query = f"query_result({known} or on ({TARGET}, agent) {counted})"
    about = "One agent, by its name where it has one; _other stands for those past METRICS_AGENT_LIMIT."
    return _choice("agent", "Agent", about, query).regex(NAMED_AGENT)


def _annotation(name: str, color: str, expr: str) -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).icon_color(color).expr(expr)


def marks() -> list[Any]:
    """Marks where the process began anew, and where another version did."""
    build = series("supervisor_build_info")
    return [
        _annotation("Restarts", "orange", f"changes({series('process_start_time_seconds')}[$__rate_interval]) > 0"),
        _annotation("Deploys", "blue", f"{build} unless on ({TARGET}, version) ({build} offset $__rate_interval)"),
    ]


def _links(own: str) -> list[Any]:
    others = {FLEET: "Fleet", AGENT: "One agent", TOKENS: "Tokens and cost"}
    return [
        dashboard.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{uid}")
        .icon("dashboard")
        .tooltip(title)
        .include_vars(True)
        .keep_time(True)
        for uid, title in others.items()
        if uid != own
    ]


def assemble(
    uid: str,
    title: str,
    description: str,
    rows: Mapping[str, Sequence[Any]],
    *,
    closed: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    more_variables: Sequence[Any] = (),
    timezone: str = "browser",
    since: str = "now-1h",
) -> model.Dashboard:
    """Put a dashboard together.

    Args:
        rows: builders of panels by the title of their row, from left to right; they fill whole lines of the grid.
        closed: the same, of rows below them that are to be opened first: what only some have.
        since: the range that is shown at first begins there.
    """
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone(timezone)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh("30s")
        .variables([*variables(), *more_variables])
        .annotations(marks())
        .links(_links(uid))
    )
    number = 0
    for row, panels in rows.items():
        number += 1
        made = made.with_row(dashboard.Row(row).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(panel.id(number))
    for row, panels in closed.items():
        number += 1
        heading = dashboard.Row(row).id(number)
        for panel in panels:
            number += 1
            heading = heading.with_panel(panel.id(number))
        made = made.with_row(heading)
    return made.build()
