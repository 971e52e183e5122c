"""Imports run downhill, each library has one room, the rules touch nothing."""

from pathlib import Path

from tests.architecture.directions import LAYERS, PACKAGES, broken_directions, layer
from tests.architecture.source import read_modules

ROOT = Path(__file__).parents[2]


def test_no_module_breaks_a_direction_of_the_house():
    assert "\n".join(broken_directions(ROOT)) == ""


def test_every_room_of_the_package_has_a_row():
    modules = read_modules(ROOT, PACKAGES[:1])

    assert modules
    assert [name for name in modules if layer(name) is None] == []


def test_no_room_stands_in_two_rows():
    rooms = [room for row in LAYERS for room in row]

    assert len(rooms) == len(set(rooms))
