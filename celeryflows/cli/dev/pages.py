"""The dashboard beside the worker of `flows dev`: a process of its own, which takes up changed code too."""

import importlib.util
import json
import socket
import sys
from collections.abc import Mapping
from typing import Any

from celeryflows.cli.dashboard_command import PORT, address
from celeryflows.cli.dev.processes import Child

NEEDED = ("flask", "flask_wtf", "waitress")


class Pages:
    """The child that serves them. `where` is their address, or says why there are none."""

    def __init__(self, app: str, settings: Mapping[str, Any], asked: int | None) -> None:
        self._missing = next((name for name in NEEDED if importlib.util.find_spec(name) is None), None)
        port = asked or free_port(PORT)
        module = ["-m", "celeryflows.cli.dev.dashboard_main", app, json.dumps(dict(settings)), str(port)]
        self._words = [sys.executable, *module]
        self._child: Child | None = None
        self.where = address("127.0.0.1", port)
        if self._missing is not None:
            self.where = "pip install 'celeryflows[dashboard]' for the pages"

    def start(self) -> None:
        """Serve them, or nothing where a package is missing."""
        if self._missing is None:
            self._child = Child(self._words)

    def renew(self) -> None:
        """Serve them from the code as it is now."""
        self.end()
        self.start()

    def end(self) -> None:
        """Stop serving."""
        if self._child is not None:
            self._child.end(within=2.0)
            self._child = None


def free_port(wanted: int) -> int:
    """That port of this host where nobody listens there, else one that the system chooses."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As the server itself will: a port of a session that just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted
