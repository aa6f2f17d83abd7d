"""The supervisor as one running thing: builds the parts once, starts them, watches them, drains them.

May import every room below: admin, management, the engine, the adapters, the core. Only the command and
``supervisor.testing`` import it.

Elsewhere: what an agent does is in :mod:`supervisor.fleet`, what a message goes through in :mod:`supervisor.messages`,
HTTP in :mod:`supervisor.admin`, and options of the command in :mod:`supervisor.cli`.
"""

from supervisor.service.main import run_until_stopped
from supervisor.service.service import Service

__all__ = ["Service", "run_until_stopped"]
