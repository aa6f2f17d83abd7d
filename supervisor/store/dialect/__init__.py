"""What a database has to be for the registry and the journal: its face, its operations, and what is stored.

May import the core and settings' secrets, no driver. How a statement reads belongs to :mod:`supervisor.store.sql`, what
only one database does to the package of that database, and when something is written to the journal above.
"""

__all__ = ["codec", "face", "holder", "operations", "rotation", "rows", "stored"]
