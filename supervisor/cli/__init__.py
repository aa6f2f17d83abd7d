"""The ``supervisor`` command: arguments in, lines and an exit code out.

May import everything; a command imports what is slow to import only when it runs. What a command does belongs to
:mod:`supervisor.management`, :mod:`supervisor.doctor` or :mod:`supervisor.service`, where the admin API finds it too.
"""

from supervisor.cli.app import main

__all__ = ["main"]
