"""The supervisor as one running thing: builds the parts once, starts them, watches them, drains them.

May import every room below: admin, management, the engine, the adapters, the core. Only the command and
``supervisor.testing`` import it.

What an agent does belongs to :mod:`supervisor.fleet`, what happens to a message to :mod:`supervisor.messages`, HTTP to
:mod:`supervisor.admin`, and options of the command to :mod:`supervisor.cli`.
"""

from supervisor.service.main import run_until_stopped
from supervisor.service.service import Service

__all__ = ["Service", "run_until_stopped"]
