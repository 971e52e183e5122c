"""What `from celeryflows import ...` offers is sorted, complete and explained."""

import importlib

from tests.architecture.names import incomplete_face, unexplained_names, unsorted_face


def test_the_public_names_are_sorted():
    assert "\n".join(unsorted_face(importlib.import_module("celeryflows"))) == ""


def test_the_public_names_are_all_that_can_be_imported():
    assert "\n".join(incomplete_face(importlib.import_module("celeryflows"))) == ""


def test_every_public_name_is_explained():
    assert "\n".join(unexplained_names(importlib.import_module("celeryflows"))) == ""
