"""The tables of a registry and the statements about them, for every database that speaks SQL.

It may import what a database has to be (``supervisor.store.dialect``), the migrations and SQLAlchemy. How a
connection is made, what its errors mean and how a batch is committed belong to the package of a
database (``supervisor.store.sqlite``).
"""

from supervisor.store.sql.agents import SqlAgents
from supervisor.store.sql.changes import SqlChanges
from supervisor.store.sql.migrate import Migrations
from supervisor.store.sql.questions import SqlQuestions
from supervisor.store.sql.sessions import Sessions

__all__ = ["Migrations", "Sessions", "SqlAgents", "SqlChanges", "SqlQuestions"]
