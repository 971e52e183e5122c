"""The table beside the peers: it is made from real runs, and who is missing or slower than wanted is seen in it."""

import subprocess
import sys

import pytest

from benchmarks.peers import packages
from benchmarks.peers.compare import Findings
from benchmarks.peers.report import details, rows
from benchmarks.table import HEAD, Bound, Row, table
from tests.workers import ROOT

TITLES = ("one step", "ten steps", "event to start, p50")


@pytest.fixture(scope="module")
def printed() -> str:
    """What the smallest form prints: one short round, and nobody whose packages are not the project's own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--quick",
        "--only",
        "celery,postgresql",
        "one",
        "ten",
        "start",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    # 1: a ratio of one short round on a busy machine is not as wanted.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("title", TITLES)
def test_the_smallest_form_compares_celeryflows_with_celery_alone(printed: str, title: str) -> None:
    line = next(line for line in printed.splitlines() if line.startswith(f"{title}, PostgreSQL"))

    _, ours, theirs, ratio, wanted, met = (cell.strip() for cell in line.split("  ") if cell.strip())
    assert theirs.startswith("Celery alone: ")
    mine, other = (float(cell.rpartition(": ")[2].split()[0].replace(",", "")) for cell in (ours, theirs))
    assert float(ratio) == pytest.approx(mine / other, rel=0.05)
    assert wanted.startswith("at ")
    assert met == ("met" if Bound(float(wanted.split()[2]), "most" in wanted).holds(float(ratio)) else "NOT MET")


def test_the_table_has_its_columns_the_load_and_the_spread(printed: str) -> None:
    heads = [line.split() for line in printed.splitlines()]

    assert [head for head in HEAD if head] in heads
    assert ["figure", "who", "median", "least", "most", "CPU", "of", "a", "unit"] in heads
    assert "(1 min)" in printed
    assert "MISSING" not in printed


def test_a_bound_on_a_peer_that_is_missing_is_not_met_and_the_reason_is_shown() -> None:
    findings = Findings({("ten", "postgresql"): [100.0]}, {"dbos": "no such package"})

    found = [row for row in rows(findings) if "DBOS" in row.peer]

    assert [(row.peer, row.ratio, row.met) for row in found] == [("DBOS, PostgreSQL: missing", None, False)]
    assert "MISSING DBOS, PostgreSQL: no such package" in details(findings, ["postgresql", "dbos"])


def test_a_peer_of_several_settings_is_compared_by_its_best_one() -> None:
    figures = {("ten", "postgresql"): [100.0], ("ten", "dbos"): [10.0], ("ten", "dbos-quick"): [20.0]}
    figures |= {("start", "postgresql"): [2.0], ("start", "dbos"): [900.0], ("start", "dbos-quick"): [10.0]}

    found = {row.figure: row.ratio for row in rows(Findings(figures)) if "DBOS" in row.peer}

    assert found == {"ten steps, PostgreSQL": 5.0, "event to start, p50, PostgreSQL": 0.2}


def test_rounds_that_one_side_did_not_come_to_are_left_out() -> None:
    findings = Findings({("ten", "postgresql"): [100.0, 90.0, 10.0], ("ten", "celery"): [10.0, 10.0]})

    assert [row.ratio for row in rows(findings)] == [9.5]


def test_a_ratio_that_is_not_as_wanted_says_so() -> None:
    few, late = Row("a", "1", "2", 0.5, Bound(0.6)), Row("b", "3", "2", 1.5, Bound(1.3, at_most=True))

    assert (few.met, late.met) == (False, False)
    assert table([few, late]).count("NOT MET") == 2


def test_a_peer_that_cannot_be_installed_says_why(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(packages, "HOME", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(packages.PeerMissing, match="npm is not on PATH"):
        packages.install((), ("a-server@1",))
