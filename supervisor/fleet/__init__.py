"""Which agents run, and the life of each: configure, authenticate, connect, stay online, find back from trouble.

May import messages and what is below. One message's way belongs to :mod:`supervisor.messages`, which this package only
starts, connects and drains. How the platform is reached belongs to :mod:`supervisor.platform`, what people ask for to
:mod:`supervisor.management`, and the building of what all agents share to :mod:`supervisor.service`.
"""

from supervisor.fleet.fleet import Fleet
from supervisor.fleet.runner import Runner
from supervisor.fleet.shared import Shared

__all__ = ["Fleet", "Runner", "Shared"]
