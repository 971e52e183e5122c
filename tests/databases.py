"""PostgreSQL databases with the schema in them: made once for each server, then copied."""

from pathlib import Path

from celeryflows.ids import new_id
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.servers import Postgres

_templates: dict[Path, str] = {}


def prepared_database(postgres: Postgres) -> str:
    """The name of a new database with the schema, a store of its own."""
    template = _templates.get(postgres.folder)
    if template is None:
        template = _templates[postgres.folder] = postgres.create_database()
        made = Store(postgres.url(template))
        upgrade(made)
        made.dispose()
    name = postgres.create_database(template)
    with postgres.connect(name) as connection:
        # Two stores never have one identity.
        connection.execute("UPDATE flows_meta SET value = %s WHERE key = 'identity'", [new_id()])
    return name
