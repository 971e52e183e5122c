"""Texts come back as they were given: any character, any size up to the bound, in every place that holds a user's."""

import json
from typing import Any

import pytest

from celeryflows.codec import dumps, loads
from celeryflows.engine.failures import failure_of, failure_text, read_failure
from celeryflows.engine.finish import cancel
from celeryflows.engine.turn import take_turn
from celeryflows.errors import NonRetriableError
from celeryflows.model.runs import Status
from celeryflows.store.database import Store
from tests.store.making import FLOW, a_runtime, a_step, a_wait, an_event, outcome, put_run, running


class NonRetriable(NonRetriableError):
    """An error of the user's own."""


ODD = {
    "four bytes a character": "🐙𝄞" * 50,
    "NUL and other controls": "a\0b\x01\x1f\x7f\x85",
    "line ends": "a\r\nb\rc\n\u2028",
    "quotes and percents": "'\"\\ %s %(now)s {now} :id $1 ?",
    "right to left, combining": "שלום e\u0301\u200d\ufeff",
    "what looks like a tag": "$flows",
    "empty": "",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_a_steps_value_comes_back_as_it_was(store: Store, text: str) -> None:
    claim = running(store)
    value = {"text": text, text: [text, None]}
    with store.connection() as connection:
        assert connection.steps.record(a_step(claim, value=dumps(value)))
        memo = connection.steps.memos(claim.run_id)["charge"]
    assert memo.value is not None
    assert loads(memo.value) == value


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_an_events_data_comes_back_as_it_was(store: Store, text: str) -> None:
    event = an_event("shop/ordered", json.dumps({"text": text}, ensure_ascii=False))
    with store.connection() as connection:
        connection.events.add([event])
        found = connection.events.get(event.id)
    assert found is not None
    assert found.data == {"text": text}


def test_the_data_of_a_list_of_events_comes_back_as_it_was(store: Store) -> None:
    made = [an_event(f"shop/{text[:5]}", json.dumps({"text": text}, ensure_ascii=False)) for text in ODD.values()]
    made = [event for event in made if "\0" not in event.name]
    with store.connection() as connection:
        connection.events.add(made)
        found = connection.events.many(event.id for event in made)
    assert {id: (event.name, event.text) for id, event in found.items()} == {
        event.id: (event.name, event.text) for event in made
    }


def test_a_value_of_the_greatest_size_comes_back(store: Store) -> None:
    claim = running(store)
    for key, letter, count in (("ascii", "x", 4 * 2**20 - 2), ("wide", "🐙", 2**20 - 1)):
        text = dumps(letter * count)
        assert 4 * 2**20 - 4 <= len(text.encode()) <= 4 * 2**20
        with store.connection() as connection:
            assert connection.steps.record(a_step(claim, key, text))
            assert connection.steps.memos(claim.run_id)[key].value == text
            assert connection.steps.read_back(claim.run_id, key).value == text  # type: ignore[union-attr]


def test_step_ids_with_odd_characters_are_apart(store: Store) -> None:
    claim = running(store)
    keys = ["a", "A", "á", "a\u0301", "a ", " a", "🐙", "%s", ":run", "'", "x" * 256, "🐙" * 256, "🐙" * 256 + ":999"]
    with store.connection() as connection:
        for number, key in enumerate(keys):
            assert connection.steps.record(a_step(claim, key, str(number)))
        memos = connection.steps.memos(claim.run_id)
    assert {key: memo.value for key, memo in memos.items()} == {key: str(n) for n, key in enumerate(keys)}


def test_names_and_paths_of_the_greatest_length_are_kept(store: Store) -> None:
    claim = running(store)
    name, path = "n" * 256, "data." + "🐙" * 251
    wait = a_wait(claim, "k" * 256, name=name, path=path, value=dumps("🐙" * 1000))
    event = an_event(name, ext_id="🐙" * 256)
    with store.connection() as connection:
        connection.waits.arm(wait)
        connection.waits.add_shape(name, path)
        connection.events.add([event])
        [found] = connection.waits.open_for(name, [wait.spec.hash])
        assert (found.name, found.path, found.value) == (name, path, wait.spec.value)
        assert connection.waits.shapes([name]) == {name: [path]}
        assert connection.events.get(event.id).ext_id == "🐙" * 256  # type: ignore[union-attr]


@pytest.mark.parametrize("text", [*ODD.values(), "lone \ud800 surrogate"], ids=[*ODD, "a lone surrogate"])
def test_an_errors_text_never_stops_its_run_from_failing(store: Store, text: str) -> None:
    def handler(ctx: Any) -> None:
        ctx.step.run("a", _fail, text)

    def _fail(words: str) -> None:
        raise NonRetriable(words)

    run_id = put_run(store)
    assert take_turn(a_runtime(store, {FLOW: handler}), run_id).status == Status.FAILED
    failure = read_failure(outcome(store, run_id).error)
    # What no database can hold is shown as text.
    shown = text.replace("\0", "\\0").encode(errors="replace").decode()
    assert (failure.name, failure.message) == ("NonRetriable", shown)


def test_a_failure_is_stored_whole(store: Store) -> None:
    claim = running(store)
    text = failure_text(failure_of(ValueError("🐙\0"), "charge"))
    with store.connection() as connection:
        assert connection.runs.finish(claim, Status.FAILED, None, text)
    assert outcome(store, claim.run_id).error == text


def test_a_reason_with_odd_characters_cancels_all_the_same(store: Store) -> None:
    for reason, shown in (("🐙", "🐙"), ("a\0b", "a\\0b"), ("lone \ud800", "lone ?")):
        run_id = put_run(store)
        assert cancel(a_runtime(store), run_id, reason)
        found = outcome(store, run_id)
        assert (found.status, found.reason) == (Status.CANCELLED, shown)
