"""Worlds with real workers, and a terminal, for the tests of this folder."""

from tests.acceptance.terminal import terminal
from tests.acceptance.witness import counter
from tests.worlds import make_world

__all__ = ["counter", "make_world", "terminal"]
