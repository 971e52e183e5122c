"""The URL of a database that is known by its parts."""

from collections.abc import Mapping

from sqlalchemy.engine import URL


def database_url(backend: str, name: str, server: Mapping[str, str], options: Mapping[str, str]) -> str:
    """A URL with its password. `server` may have `user`, `password`, `host` (a socket's folder too) and `port`;
    `options` are the driver's own, such as `sslmode`."""
    host, port = server.get("host") or None, server.get("port") or None
    query = dict(options)
    if host is not None and host.startswith("/"):
        query["host"], host = host, None
    url = URL.create(
        backend,
        username=server.get("user") or None,
        password=server.get("password") or None,
        host=host,
        port=int(port) if port is not None else None,
        database=name,
        query=query,
    )
    return url.render_as_string(hide_password=False)
