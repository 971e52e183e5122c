"""Django in a process of its own, over a database that is named by its URL."""

from typing import Any

import django
import pymysql
from django.conf import settings
from sqlalchemy.engine import make_url


def live_in_django(url: str) -> None:
    """Set Django up, the database as its default one."""
    parsed = make_url(url)
    given: dict[str, Any] = {"NAME": parsed.database}
    if parsed.get_backend_name() == "sqlite":
        given |= {"ENGINE": "django.db.backends.sqlite3"}
        given |= {"OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 60}}
    elif parsed.get_backend_name() in ("mariadb", "mysql"):
        # Django takes PyMySQL for mysqlclient.
        pymysql.install_as_MySQLdb()
        socket = parsed.query["unix_socket"]
        given |= {"ENGINE": "django.db.backends.mysql", "USER": parsed.username, "HOST": socket}
    else:
        given |= {"ENGINE": "django.db.backends.postgresql", "USER": parsed.username, "HOST": parsed.query["host"]}
    settings.configure(DATABASES={"default": given}, INSTALLED_APPS=["celeryflows.contrib.django"], USE_TZ=True)
    django.setup()
