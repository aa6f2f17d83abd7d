"""The tables of a registry and the statements about them, for every database that speaks SQL.

May import the store's values (``stored``, ``dialect``, ``codec``) and SQLAlchemy. How a connection is made, what its
errors mean and how a batch is committed belong to the package of a database (``supervisor.store.sqlite``).
"""
