"""The ``supervisor`` command (DESIGN §6). Commands are thin and import what they need when they run."""

from supervisor.cli.app import main

__all__ = ["main"]
