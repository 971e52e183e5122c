"""The store in one of the project's own databases: the URL of an alias of DATABASES."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from celeryflows.errors import ConfigurationError
from celeryflows.store.addresses import database_url

# What Django itself asks of the driver, and what stands in the URL in another place.
DJANGOS_OWN = frozenset(("client_encoding", "context", "cursor_factory", "dbname", "prepare_threshold"))
SERVER = frozenset(("user", "password", "host", "port"))


def alias_url(alias: str) -> str:
    """The URL of the database, as Django connects to it now: tests have another. Raises ConfigurationError."""
    try:
        connection = connections[alias]
        params = connection.get_connection_params()
    except (ConnectionDoesNotExist, ImproperlyConfigured) as error:
        raise ConfigurationError(f"flows_store_url='django:{alias}': {error}") from error
    if connection.vendor == "sqlite":
        return _file_url(alias, connection)
    if connection.vendor == "postgresql":
        return _server_url(params)
    if connection.vendor == "mysql":
        return _mariadb_url(params)
    raise ConfigurationError(
        f"flows_store_url='django:{alias}': {connection.display_name} is no store of celeryflows. Use an alias on "
        "PostgreSQL, MariaDB or SQLite, or another URL."
    )


def _file_url(alias: str, connection: Any) -> str:
    name = str(connection.settings_dict["NAME"])
    if connection.is_in_memory_db() or name.startswith("file:"):
        raise ConfigurationError(
            f"flows_store_url='django:{alias}': {name!r} is in memory, or no plain path: no other process finds it. In "
            "tests put FlowsTester around what sends (the fixture flows_tester), or give "
            f"DATABASES[{alias!r}]['TEST']['NAME'] a file."
        )
    return database_url("sqlite", name, {}, {})


def _server_url(params: dict[str, Any]) -> str:
    server = {key: str(value) for key, value in params.items() if key in SERVER}
    options = {
        key: str(value) for key, value in params.items() if key not in DJANGOS_OWN | SERVER and value is not None
    }
    return database_url("postgresql", str(params.get("dbname", "")), server, options)


def _mariadb_url(params: dict[str, Any]) -> str:
    server = {
        "user": str(params.get("user") or ""),
        "password": str(params.get("password") or params.get("passwd") or ""),
        "host": str(params.get("host") or ""),
        "port": str(params.get("port") or ""),
    }
    socket = {"unix_socket": str(params["unix_socket"])} if params.get("unix_socket") else {}
    name = str(params.get("database") or params.get("db") or "")
    return database_url("mariadb", name, server, socket)
