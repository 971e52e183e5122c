"""The laws of a storm see what they are there for, in what a witness may have been told."""

from typing import Any

from tests.chaos.findings import CHANGED, DOUBLED, EXCEEDED, Findings
from tests.chaos.laws import RunSeen, Sight, StepSeen, nothing_ran_after_its_record, values_are_of_their_steps
from tests.chaos.ledger import BEGAN, ENDED, RECORDED, Line
from tests.chaos.limit_laws import nobody_was_too_many

ONE, OTHER = "a" * 32, "b" * 32


def line(at: float, what: str, run: str, turn: int = 1, said: Any = None, given: Any = ()) -> Line:
    return Line(at, what, run, "first", turn, "mixed.keyed", 1, list(given), said)


def sight(lines: list[Line], value: str = ONE, turn: int = 1) -> Sight:
    """Runs of one user, each with its first step recorded."""
    names = {one.run for one in lines}
    runs = {
        run: RunSeen(run, "mixed.keyed", "completed", [value], run, {"id": run, "user": "u"}, None, None, 0, None)
        for run in names
    }
    made = Sight(runs, {(run, "first"): StepSeen(run, "first", "run", "done", value, turn) for run in names})
    for one in lines:
        made.told[one.run, one.key].append(one)
    return made


def judged(lines: list[Line], value: str = ONE, turn: int = 1) -> tuple[Findings, int]:
    findings, seen = Findings(), sight(lines, value, turn)
    zombies = nothing_ran_after_its_record(seen, 0.0, findings)
    values_are_of_their_steps(seen, findings)
    nobody_was_too_many(seen, lines, findings)
    return findings, zombies


def test_one_execution_and_its_record_are_no_finding() -> None:
    findings, zombies = judged([line(1, BEGAN, "r"), line(2, ENDED, "r", said=ONE), line(3, RECORDED, "r")])
    assert (findings.all, zombies) == ([], 0)


def test_a_body_of_a_later_turn_than_the_record_is_doubled() -> None:
    lines = [line(1, BEGAN, "r"), line(2, ENDED, "r", said=ONE), line(3, BEGAN, "r", turn=2)]
    assert judged(lines)[0].count(DOUBLED) == 1


def test_a_body_of_an_earlier_turn_is_a_zombies_and_no_finding() -> None:
    lines = [
        line(1, BEGAN, "r"),
        line(2, BEGAN, "r", turn=2),
        line(3, ENDED, "r", turn=2, said=ONE),
        line(4, RECORDED, "r", turn=2),
        line(5, ENDED, "r", said=OTHER),
    ]
    findings, zombies = judged(lines, turn=2)
    assert (findings.all, zombies) == ([], 1)


def test_a_value_that_no_execution_of_its_turn_gave_is_changed() -> None:
    assert judged([line(1, BEGAN, "r"), line(2, ENDED, "r", said=OTHER)])[0].count(CHANGED) == 1


def test_a_body_that_was_given_what_was_not_recorded_is_changed() -> None:
    lines = [line(1, BEGAN, "r", given=[OTHER]), line(2, ENDED, "r", said=ONE)]
    assert judged(lines)[0].count(CHANGED) == 1


def test_two_inside_where_one_may_be_are_exceeded() -> None:
    apart = [
        line(1, BEGAN, "r"),
        line(2, ENDED, "r", said=ONE),
        line(3, BEGAN, "s"),
        line(4, ENDED, "s", said=ONE),
    ]
    together = [apart[0], apart[2], apart[1], apart[3]]
    assert judged(apart)[0].count(EXCEEDED) == 0
    assert judged(together)[0].count(EXCEEDED) == 1


def test_who_was_killed_inside_is_inside_until_it_was_done_again() -> None:
    lines = [
        line(1, BEGAN, "r"),
        line(2, BEGAN, "s"),
        line(3, ENDED, "s", said=ONE),
        line(4, BEGAN, "r", turn=2),
        line(5, ENDED, "r", turn=2, said=ONE),
    ]
    assert judged(lines, turn=2)[0].count(EXCEEDED) == 1
