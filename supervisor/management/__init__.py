"""What people ask for, by command or over the admin API: changes of agents, dead letters.

May import the fleet and what is below. Formats of input and output belong to :mod:`supervisor.cli` and
:mod:`supervisor.admin`; that a running fleet follows a change, to :mod:`supervisor.service.control`.
"""

__all__ = ["agents", "messages"]
