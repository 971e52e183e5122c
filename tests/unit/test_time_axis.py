"""The time axis of a run: milliseconds beside days, in order, and nothing outside of it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flask_dashboard.presenters.axis import Span, axis_of
from flask_dashboard.presenters.moments import length

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_work_stays_to_be_seen_beside_a_sleep_of_days_and_the_break_says_how_long_it_was():
    spans = [Span(at(0), at(1), True), Span(at(1), at(3 * 86400), False), Span(at(3 * 86400), at(3 * 86400 + 1), True)]
    axis = axis_of(spans, at(0), at(3 * 86400 + 1))
    assert axis.x(at(1)) > 30
    assert [mark.label for mark in axis.breaks] == ["2 d 23 h"]
    true = axis_of(spans, at(0), at(3 * 86400 + 1), folded=False)
    assert true.x(at(1)) < 0.01
    assert true.breaks == ()


@given(
    spans=st.lists(st.tuples(st.floats(-10, 1e6), st.floats(0, 1e6), st.booleans()), max_size=30),
    moments=st.lists(st.floats(-10, 2e6), min_size=2, max_size=20),
    folded=st.booleans(),
)
def test_what_is_later_never_stands_to_the_left(spans, moments, folded):
    found = [Span(at(start), at(start + long), works) for start, long, works in spans]
    axis = axis_of(found, at(0), at(1e6), folded=folded)
    places = [axis.x(at(moment)) for moment in sorted(moments)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert [tick.x for tick in axis.ticks()] == [0, 25, 50, 75]


def test_a_length_has_two_units_at_most():
    shown = [length(timedelta(seconds=s)) for s in (0.0004, 0.0125, 0.9999, 1.25, 59.96, 61, 3600, 3661, 90000)]
    assert shown == ["0.4 ms", "12 ms", "1.0 s", "1.2 s", "1 min", "1 min 1 s", "1 h", "1 h 1 min", "1 d 1 h"]
