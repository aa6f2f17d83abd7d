"""The tables of a registry and the statements about them, for every database that speaks SQL.

It may import what a database has to be (``supervisor.store.dialect``). How a connection is made, what its errors mean,
how a batch is committed and how migrations are run belong to the package of a database (``supervisor.store.sqlite``).
"""

from supervisor.store.sql.agents import SqlAgents
from supervisor.store.sql.changes import SqlChanges
from supervisor.store.sql.history import SqlHistory
from supervisor.store.sql.questions import SqlQuestions
from supervisor.store.sql.sessions import Sessions

__all__ = ["Sessions", "SqlAgents", "SqlChanges", "SqlHistory", "SqlQuestions"]
