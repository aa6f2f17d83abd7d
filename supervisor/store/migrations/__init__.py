"""The registry's schema, step by step (Alembic); run by the ``migrate`` of each database's package."""
