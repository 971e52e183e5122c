"""The worker of `flows dev`: `python -m celeryflows.cli.dev.worker_main APP SETTINGS OPTIONS...`.

Loads the app as `celery -A` does, lays the session's settings (JSON) over its own, and becomes its worker."""

import json
import sys
import warnings

from celery.app.utils import find_app
from celery.platforms import SecurityWarning


def main(name: str, settings: str, *options: str) -> None:
    """Run the worker until it is told to end."""
    # A developer's container runs as root; Celery would say so at each restart.
    warnings.simplefilter("ignore", SecurityWarning)
    app = find_app(name)
    app.conf.update(json.loads(settings))
    app.worker_main(["--quiet", "worker", *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
