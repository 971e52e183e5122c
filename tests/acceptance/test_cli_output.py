"""What the terminal shows: pictures of time, lines of news, JSON of anything, and nothing that steers it."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from rich.console import Console

from celeryflows.cli.dev.lines import line_of
from celeryflows.cli.output import json_form, one_line_json, plain, table
from celeryflows.cli.timeline import ASCII_GLYPHS, GLYPHS, Segment, bar, draw, segments
from celeryflows.console.activity import About, News
from celeryflows.console.events import EventSummary
from celeryflows.console.runs import RunDetail, RunSummary, StepSummary
from celeryflows.model.runs import Status
from celeryflows.model.steps import Failure

NINE = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NINE + timedelta(seconds=seconds)


def picture(*pieces: tuple[str, float, float]) -> str:
    """The pieces on an axis of ten seconds and ten letters."""
    found = [Segment(kind, at(start), at(end)) for kind, start, end in pieces]
    return bar(found, at(0), at(10), 10, ASCII_GLYPHS)


STEP = StepSummary(
    id="charge",
    kind="run",
    standing="done",
    attempts=1,
    began=at(0),
    until=at(4),
    recorded_at=at(4),
    took=timedelta(seconds=4),
    due_at=None,
    value=1,
    error=None,
    awaits=None,
    event_id=None,
    problem=None,
)
RUN = RunSummary(
    id="01RUN",
    flow="bill",
    status=Status.COMPLETED,
    version=None,
    event_id="01EVENT",
    turn=1,
    attempt=0,
    created_at=at(0),
    started_at=at(0),
    ended_at=at(10),
    wake_at=None,
    reason=None,
    output={"ok": True},
    error=None,
)
FAILURE = Failure("ValueError", "no\nsuch card", "Traceback ...\n  line one", "charge")


def drawn(*steps: StepSummary, run: RunSummary = RUN, encoding: str = "utf-8", width: int = 140) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, color_system=None)
    console.print(draw(RunDetail(run, None, steps, at(10)), console))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


# -- pictures


def test_a_piece_of_time_is_drawn_where_it_was():
    assert picture(("work", 2, 5)) == "  ###     "
    assert picture(("rest", 0, 10)) == "----------"


def test_a_piece_too_short_for_a_letter_still_shows():
    assert picture(("work", 5, 5.0001)) == "     #    "
    assert picture(("work", 10, 10)) == "         #"


def test_work_is_drawn_over_the_time_between_attempts():
    assert picture(("work", 4, 5), ("between", 0, 8)) == "....#...  "


def test_what_lies_outside_the_axis_is_cut():
    assert picture(("rest", -5, 3), ("rest", 8, 99)) == "---     --"


def test_an_axis_without_length_is_drawn_all_the_same():
    assert bar([Segment("work", at(0), at(0))], at(0), at(0), 4, GLYPHS) == "█   "


def test_a_step_s_time_is_that_of_its_attempt():
    assert segments(STEP, at(10)) == [Segment("work", at(0), at(4))]


def test_a_step_that_was_tried_again_shows_the_time_between():
    step = replace(STEP, attempts=3, took=timedelta(seconds=1))

    assert segments(step, at(10)) == [Segment("between", at(0), at(3)), Segment("work", at(3), at(4))]


def test_a_step_that_backs_off_shows_that_it_goes_on():
    step = replace(STEP, standing="retrying", until=None)

    assert segments(step, at(10)) == [Segment("work", at(0), at(4)), Segment("between", at(4), at(10))]


@pytest.mark.parametrize("kind", ["sleep", "wait"])
def test_a_sleep_and_a_wait_rest_until_their_end(kind):
    step = replace(STEP, kind=kind, standing="slept", until=at(7), took=None)

    assert segments(step, at(10)) == [Segment("rest", at(0), at(7))]
    assert segments(replace(step, until=None), at(10)) == [Segment("rest", at(0), at(10))]


def test_a_run_is_drawn_with_attempts_errors_and_output():
    failed = replace(STEP, standing="failed", attempts=3, error=FAILURE)

    shown = drawn(failed, replace(STEP, id="refund"))

    assert "run    01RUN  bill  completed  started " in shown
    assert "took 10 s, 1 turn" in shown
    assert "failed 4 s, 3 attempts, ValueError: no such card" in shown
    assert 'output {"ok": true}' in shown


def test_a_failed_run_is_drawn_with_its_stack():
    shown = drawn(run=replace(RUN, status=Status.FAILED, output=None, error=FAILURE))

    assert "error  ValueError: no such card in step 'charge'" in shown
    assert "line one" in shown


def test_a_terminal_without_unicode_gets_a_picture_in_ascii():
    shown = drawn(STEP, encoding="ascii")

    assert "####" in shown
    assert shown.isascii()


def test_a_narrow_terminal_cuts_names_before_pictures():
    shown = drawn(replace(STEP, id="a step with a name of very many words indeed"), width=80)

    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "█" in shown


@pytest.mark.parametrize("width", [80, 120, 200])
def test_ids_statuses_and_moments_stay_whole_in_a_table_of_any_width(width):
    rows = table("id", "flow", "status", "created", "took", "")
    rows.add_row("0" * 26, "a.module.of.a.project.flow", "completed", "2026-01-31 09:00:00", "12.5 s", plain("x" * 80))
    console = Console(file=io.StringIO(), width=width)

    console.print(rows)

    printed = console.file.getvalue().splitlines()[1]
    assert all(whole in printed for whole in ("0" * 26, "completed", "2026-01-31 09:00:00", "12.5 s"))
    assert len(printed) <= width


# -- what users wrote


@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "\x07", "\u202eabc", "\x00"])
def test_what_a_terminal_would_obey_is_shown_and_not_obeyed(text):
    assert plain(text).plain.isprintable()


def test_markup_is_text():
    assert plain("[red]x[/red]").plain == "[red]x[/red]"


def test_several_lines_become_one_and_long_text_is_cut():
    assert plain("a\n  b").plain == "a b"
    assert plain("x" * 50, 10).plain == "xxxxxxx..."


# -- JSON


def test_every_decoded_value_has_a_json_form():
    value = {
        "when": NINE,
        "cost": Decimal("1.50"),
        "id": UUID(int=1),
        "raw": b"\x00",
        "many": {1},
        "long": timedelta(minutes=1),
        "status": Status.FAILED,
        "failure": FAILURE,
        7: (None, True, 1.5),
    }

    assert json.loads(json.dumps(json_form(value))) == {
        "when": "2026-01-31T09:00:00+00:00",
        "cost": "1.50",
        "id": "00000000-0000-0000-0000-000000000001",
        "raw": "AA==",
        "many": [1],
        "long": 60.0,
        "status": "failed",
        "failure": {"name": "ValueError", "message": "no\nsuch card", "stack": FAILURE.stack, "step_id": "charge"},
        "7": [None, True, 1.5],
    }
    assert one_line_json({"é": 1}).plain == '{"é": 1}'


# -- lines of news


def line(about: About, run: RunSummary | None = None, step: StepSummary | None = None) -> str:
    return line_of(News(NINE, about, run=run, step=step)).plain[14:]


def test_each_kind_of_news_is_one_line():
    event = EventSummary("01E", None, "a/b", {"n": 1}, NINE, None, NINE, NINE, None)

    assert line_of(News(NINE, About.EVENT, event=event)).plain[14:] == 'event  a/b {"n": 1}'
    assert line(About.START, RUN) == "run    bill 01RUN  started as 01RUN"
    assert line(About.STEP, RUN, STEP) == "step   bill 01RUN  charge  done in 4 s"
    assert line(About.END, RUN) == 'run    bill 01RUN  completed in 10 s {"ok": true}'


def test_news_of_ends_tell_the_reason_or_the_error():
    cancelled = replace(RUN, status=Status.CANCELLED, reason="a duplicate")
    failed = replace(RUN, status=Status.FAILED, error=FAILURE)

    assert line(About.END, cancelled) == "run    bill 01RUN  cancelled in 10 s: a duplicate"
    assert line(About.END, failed) == "run    bill 01RUN  failed in 10 s: ValueError: no such card"


def test_news_of_steps_tell_what_follows():
    retrying = replace(STEP, standing="retrying", attempts=2, error=FAILURE, until=None, due_at=at(60))
    waiting = replace(STEP, kind="wait", standing="waiting", took=None, until=None, due_at=at(60), awaits="a/c")

    assert "retrying in 4 s, attempt 2: ValueError: no such card, again at " in line(About.STEP, RUN, retrying)
    assert "waiting for a/c until " in line(About.STEP, RUN, waiting)
    assert "answered by a/c" in line(About.STEP, RUN, replace(waiting, standing="answered", until=at(1)))
