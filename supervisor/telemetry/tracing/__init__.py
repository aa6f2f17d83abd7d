"""Traces of messages, in OpenTelemetry's terms: one a message, from its receipt to the last acknowledgement.

The only importer of OpenTelemetry, and that only once :func:`start_tracing` is given a collector. Without one there is
:data:`NO_TRACING`, whose verbs do nothing.

May import what telemetry may. When a span begins and ends belongs to whoever does the work; what a span says of it
belongs here.
"""

from __future__ import annotations

from supervisor.core.errors import ConfigurationError
from supervisor.telemetry.tracing.interface import NO_TRACES, NO_TRACING, AttemptTrace, Collector, Traces, Tracing

__all__ = ["NO_TRACES", "NO_TRACING", "AttemptTrace", "Collector", "Traces", "Tracing", "start_tracing"]


def start_tracing(collector: Collector, *, sample_ratio: float = 1.0) -> Tracing:
    """Send traces to ``collector`` from now on.

    Args:
        sample_ratio: the share of messages that have one, 0 to 1; it is their trace id that decides.

    Raises:
        ConfigurationError: the packages of the extra ``otel`` are missing, or the collector's CA file cannot be used.
    """
    try:
        from supervisor.telemetry.tracing.spans import SpanTracing  # noqa: PLC0415  slow, and not always there
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ConfigurationError(
            f"SUPERVISOR_OTLP_ENDPOINT needs {package}, which comes with: pip install 'aiwm-supervisor[otel]'"
        ) from None
    return SpanTracing(collector, sample_ratio=sample_ratio)
