"""A receiver on loopback that serves in a thread of its own, for a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from threading import Thread
from typing import TypeVar

R = TypeVar("R", bound=BaseServer)


@contextmanager
def serving(server: R) -> Iterator[R]:
    """It answers until the block ends."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
