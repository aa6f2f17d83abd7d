"""``supervisor doctor``: tries what a supervisor would do, step by step, and says what to change (DESIGN §6)."""

from supervisor.doctor.deployment import check_handlers, check_registry, check_supervisor
from supervisor.doctor.examiner import Examiner
from supervisor.doctor.findings import Finding, Level, Tell, Trouble, exit_code, failed, misconfigured
from supervisor.doctor.fleet import Running, check_agent, check_fleet

__all__ = [
    "Examiner",
    "Finding",
    "Level",
    "Running",
    "Tell",
    "Trouble",
    "check_agent",
    "check_fleet",
    "check_handlers",
    "check_registry",
    "check_supervisor",
    "exit_code",
    "failed",
    "misconfigured",
]
