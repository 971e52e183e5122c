"""Alembic's home: one file a change of the schema, expand first, contract a release later."""
