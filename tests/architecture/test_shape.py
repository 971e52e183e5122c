"""Files stay small, say what they are for, and keep nevers 8 to 10."""

from pathlib import Path

import pytest

from tests.architecture.shape import (
    boolean_positions,
    dangerous,
    eta_messages,
    out_of_shape,
    vague_names,
    without_purpose,
)

ROOT = Path(__file__).parents[2]
PACKAGES = ["celeryflows", "flask_dashboard"]
ALL_SOURCE = [*PACKAGES, "benchmarks", "examples"]


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_stay_small(package):
    assert "\n".join(out_of_shape(ROOT, package)) == ""


def test_every_file_opens_with_its_purpose():
    assert "\n".join(without_purpose(ROOT, ALL_SOURCE)) == ""


def test_names_say_what_is_inside():
    assert "\n".join(vague_names(ROOT, [*ALL_SOURCE, "tests"])) == ""


def test_no_text_is_run_and_no_pickle_is_read():
    assert "\n".join(dangerous(ROOT, ALL_SOURCE)) == ""


def test_no_message_waits_in_the_broker():
    assert "\n".join(eta_messages(ROOT, PACKAGES)) == ""


def test_public_functions_take_no_bare_bool():
    assert "\n".join(boolean_positions(ROOT, PACKAGES)) == ""
