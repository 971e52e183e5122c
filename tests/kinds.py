"""The kinds of stores that the conformance tests run on."""

import pytest

# On MariaDB what tests/store promises is tested always, the rest with `--stores=mariadb`.
MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)
KINDS = ["sqlite", "postgres", MARIADB]
