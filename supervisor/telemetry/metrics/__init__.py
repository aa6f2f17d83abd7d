"""Every figure that the supervisor shows: instruments behind small verbs, and their exposition.

Two rules keep the number of series bounded whatever the platform, a handler or a model calls itself: label values from
outside are cut, cleaned and limited in number, the rest counted under ``_other``; and only ``agent_limit`` agents have
series of their own. Histograms never carry an agent. ``Metrics().describe()`` lists all metrics without a supervisor.

May import the core, and the client library of Prometheus, which nobody else imports. When something is counted belongs
to whoever does it; a new metric is a verb in the module of what it is about.
"""

from supervisor.telemetry.metrics.families import MAX_LABEL_CHARS, OTHER, Description
from supervisor.telemetry.metrics.metrics import Metrics
from supervisor.telemetry.metrics.models import NO_ERROR
from supervisor.telemetry.metrics.storage import WATCHDOGS

__all__ = ["MAX_LABEL_CHARS", "NO_ERROR", "OTHER", "WATCHDOGS", "Description", "Metrics"]
