"""Worlds with real workers for the tests of this folder."""

from tests.worlds import make_world

__all__ = ["make_world"]
