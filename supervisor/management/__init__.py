"""What people ask for, by command, over the admin API or in a file: which agents are meant, changes, dead letters.

May import the fleet and what is below. Other formats of input and output belong to :mod:`supervisor.cli` and
:mod:`supervisor.admin`; that a running fleet follows a change, to :mod:`supervisor.service.control`.
"""

__all__ = ["agents", "fleet_file", "fleet_import", "history", "messages", "selection"]
