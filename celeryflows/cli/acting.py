"""What is changed at a terminal is written down before it is done, as on the pages: who, at which host, to what."""

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celeryflows.console.audit import audited
from celeryflows.engine.runtime import Runtime

TERMINAL = "terminal"
LONGEST = 80


@contextmanager
def written_down(runtime: Runtime, action: str, subject: str, **asked: Any) -> Iterator[None]:
    """Write down what the block does and what came of it. `asked`: the options that say which runs were meant."""
    words = [f"{name}={str(value)[:LONGEST]}" for name, value in asked.items() if value not in (None, "", (), False)]
    with audited(runtime, who=who(), via=TERMINAL, action=action, subject=" ".join([subject, *words])):
        yield


def who() -> str:
    """The user of the system, and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
