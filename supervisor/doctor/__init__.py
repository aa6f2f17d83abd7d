"""``supervisor doctor``: tries what a supervisor would do, step by step, and says what to change.

May import management and what is below. Keeping an agent online belongs to :mod:`supervisor.fleet`; how findings are
printed, and which exit code they make, to :mod:`supervisor.cli`.
"""

from supervisor.doctor.deployment import check_handlers, check_registry, check_supervisor
from supervisor.doctor.examiner import Examiner
from supervisor.doctor.findings import Finding, Level, Report
from supervisor.doctor.fleet import Running, check_agent, check_fleet

__all__ = [
    "Examiner",
    "Finding",
    "Level",
    "Report",
    "Running",
    "check_agent",
    "check_fleet",
    "check_handlers",
    "check_registry",
    "check_supervisor",
]
