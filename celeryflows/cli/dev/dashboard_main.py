"""The dashboard of `flows dev`: `python -m celeryflows.cli.dev.dashboard_main APP SETTINGS PORT`."""

import json
import sys

from celery.app.utils import find_app

from celeryflows.cli.dashboard_command import server_for


def main(name: str, settings: str, port: str) -> None:
    """Serve the pages until it is told to end."""
    app = find_app(name)
    app.conf.update(json.loads(settings))
    app.loader.import_default_modules()
    app.finalize()
    server_for(app.flows, "127.0.0.1", int(port)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
