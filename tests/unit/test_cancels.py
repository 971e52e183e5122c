"""Promises of `cancel_on` and `timeouts` as they are declared: what is refused, and what is kept."""

import json
from datetime import timedelta
from typing import Any

import pytest

from celeryflows import CancelOn, DeclarationError, ExpressionError, Timeouts
from celeryflows.model.cancels import cancel_waits, parse_cancel_on, parse_timeouts
from celeryflows.model.flows import FlowDefinition, read_definition
from celeryflows.model.steps import check_step_id


def test_a_name_a_rule_and_a_list_are_read() -> None:
    rule = CancelOn("a/b", match="data.x", timeout="1h")
    assert parse_cancel_on(None, "f") == ()
    assert parse_cancel_on("a/b", "f") == (CancelOn("a/b"),)
    assert parse_cancel_on(["a/b", rule], "f") == (
        CancelOn("a/b"),
        CancelOn("a/b", match="data.x", timeout=timedelta(hours=1)),
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (7, "an event's name or CancelOn"),
        ("", "event name is empty"),
        ("order/*", "holds '*'"),
        (CancelOn(7), "must be text"),  # type: ignore[arg-type]
        (CancelOn("a/b", match="data.x", if_exp="true"), "match or if_exp, not both"),
        (CancelOn("a/b", match="x"), "no path of a field"),
        (CancelOn("a/b", match="event.data.x"), "no path of a field"),
        (CancelOn("a/b", match="data."), "no path of a field"),
        (CancelOn("a/b", match=f"data.{'x' * 256}"), "no path of a field"),
        (CancelOn("a/b", match=7), "no path of a field"),  # type: ignore[arg-type]
        (CancelOn("a/b", timeout=5), "no unit"),  # type: ignore[arg-type]
        (CancelOn("a/b", timeout="0s"), "too short"),
        (CancelOn("a/b", timeout=timedelta(days=10**8)), "at most"),
        (["a/b"] * 6, "at most 5"),
    ],
)
def test_what_cannot_be_is_refused_with_the_flows_name(value: Any, says: str) -> None:
    with pytest.raises(DeclarationError, match=says) as raised:
        parse_cancel_on(value, "ship")
    assert "flow 'ship'" in str(raised.value)


@pytest.mark.parametrize("condition", ["async.data.x >", "kwargs.x == 1", ""])
def test_a_bad_condition_is_refused_with_the_flows_name(condition: str) -> None:
    with pytest.raises(ExpressionError, match="flow 'ship', cancel_on 'a/b': if_exp"):
        parse_cancel_on(CancelOn("a/b", if_exp=condition), "ship")


def test_our_own_events_may_cancel() -> None:
    assert parse_cancel_on("flows/run.failed", "f") == (CancelOn("flows/run.failed"),)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1h", "Timeouts"),
        (Timeouts(), "give start=, finish= or both"),
        (Timeouts(start=60), "no unit"),  # type: ignore[arg-type]
        (Timeouts(finish="0 s"), "too short"),
    ],
)
def test_bounds_that_cannot_be_are_refused_with_the_flows_name(value: Any, says: str) -> None:
    with pytest.raises(DeclarationError, match=says) as raised:
        parse_timeouts(value, "ship")
    assert "flow 'ship'" in str(raised.value)


def test_the_stored_form_reads_back_equal() -> None:
    flow = FlowDefinition(
        "ship",
        cancel_on=parse_cancel_on(["a/b", CancelOn("c/d", if_exp="async.data.x", timeout="90m")], "ship"),
        timeouts=parse_timeouts(Timeouts(finish="2h"), "ship"),
    )
    assert read_definition("ship", flow.text()) == flow
    assert flow.hash != FlowDefinition("ship").hash


def test_a_flow_without_them_keeps_its_stored_form() -> None:
    kept = json.loads(FlowDefinition("ship").text())
    assert not {"cancel_on", "timeouts"} & set(kept)


@pytest.mark.parametrize("number", range(5))
def test_no_step_id_and_no_count_of_one_is_a_cancels_key(number: int) -> None:
    key = cancel_waits([CancelOn("a/b")] * 5, {})[number].key
    with pytest.raises(Exception, match="repeated ids"):
        check_step_id(key)
    # A repeated id is counted from 1 on, without leading zeros.
    assert key.rpartition(":")[2].startswith("0")
