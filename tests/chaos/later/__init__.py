"""Later releases of celeryflows, by the schema that they want: CHAOS_SCHEMA=9001 has more, 9002 takes of it away.

`python -m tests.chaos.later URL VERSION` takes a store back."""

import os
import sys
from pathlib import Path
from typing import Any

from celeryflows.store import versions

MORE, LESS = "9001", "9002"
HERE = Path(__file__).parent
# The version, and since when code works on a store of it.
SINCE = {MORE: versions.SINCE, LESS: MORE}
TODAY = versions.newest_version()


def become(version: str | None) -> None:
    """This process is the release that wants this version; None for today's."""
    if version is None:
        return
    versions.VERSIONS += tuple(more for more in SINCE if more <= version)
    versions.SINCE = SINCE[version]
    # Alembic costs a worker's start a second.
    if "upgrade" in sys.argv:
        know_migrations(version)


def know_migrations(version: str) -> None:
    """Upgrades of this process go up to the version."""
    # Not on top: see above.
    from celeryflows.store import upgrade

    ours = upgrade._config

    def config(connection: Any = None) -> Any:
        made = ours(connection)
        folders = [upgrade.MIGRATIONS / "versions", HERE / "more", *([HERE / "less"] if version == LESS else [])]
        made.set_main_option("path_separator", "os")
        made.set_main_option("version_locations", os.pathsep.join(map(str, folders)))
        return made

    upgrade._config = config
