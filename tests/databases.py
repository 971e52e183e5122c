"""Databases with the schema in them, on a server: it is made once for each server, then copied."""

from pathlib import Path

from celeryflows.ids import new_id
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.mariadb import Mariadb
from tests.servers import Postgres

_templates: dict[Path, str] = {}
_tables: dict[Path, list[str]] = {}


def prepared_database(server: Postgres | Mariadb) -> str:
    """The name of a new database with the schema, a store of its own."""
    return _on_mariadb(server) if isinstance(server, Mariadb) else _on_postgres(server)


def _on_postgres(postgres: Postgres) -> str:
    template = _templates.get(postgres.folder)
    if template is None:
        template = _templates[postgres.folder] = postgres.create_database()
        _upgrade(postgres.url(template))
    name = postgres.create_database(template)
    with postgres.connect(name) as connection:
        # Two stores never have one identity.
        connection.execute("UPDATE flows_meta SET value = %s WHERE key = 'identity'", [new_id()])
    return name


def _on_mariadb(mariadb: Mariadb) -> str:
    """MariaDB copies no databases: the tables are made by what it tells of those that were upgraded."""
    name = mariadb.create_database()
    statements = _tables.get(mariadb.folder)
    if statements is None:
        _upgrade(mariadb.url(name))
        made = [row[0] for row in mariadb.run("SHOW TABLES", database=name)]
        ((version,),) = mariadb.run("SELECT version_num FROM flows_schema", database=name)
        statements = [mariadb.run(f"SHOW CREATE TABLE {table}", database=name)[0][1] for table in made]
        _tables[mariadb.folder] = [*statements, f"INSERT INTO flows_schema VALUES ('{version}')"]
        return name
    mariadb.run(*statements, f"INSERT INTO flows_meta VALUES ('identity', '{new_id()}')", database=name)
    return name


def _upgrade(url: str) -> None:
    made = Store(url)
    upgrade(made)
    made.dispose()
