"""Worlds with real workers, and a terminal, for the tests of this folder."""

from tests.acceptance.terminal import terminal
from tests.worlds import make_world

__all__ = ["make_world", "terminal"]
