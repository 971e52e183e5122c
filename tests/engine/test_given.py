"""What steps are called with is recorded where a flow asks for it, with the step's own statement, and nowhere else."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from celeryflows import Backoff, DeclarationError, Event, Middleware
from celeryflows.console.run_pages import run_page, step_page
from celeryflows.engine.given import MOST
from celeryflows.middleware import StepCall
from celeryflows.store.steps import PUT, RECORD, RECORD_IN_BRANCH
from tests.engine.sealed import OLD, SECRET, raw, use
from tests.engine.world import World
from tests.waiting import eventually


def given(world: World, key: str, run: Any = None) -> Any:
    """What a step of the run was called with, as the desk shows it."""
    page = run_page(world.runtime, (run or world.only_run()).id)
    held = step_page(world.runtime, page, key)
    assert held is not None
    return held.called_with


def declined(*_: Any) -> None:
    raise ValueError("declined")


class Session:
    """Nothing that has a JSON form."""


def test_each_kind_of_step_that_calls_a_function_keeps_what_it_was_called_with(shared: World) -> None:
    @shared.flow(name="pay", trigger="order/paid", record_inputs=True, retries=0)
    def pay(ctx: Any) -> Any:
        def insert(connection: Connection, sku: str) -> str:
            return sku

        ctx.step.run("charge", lambda *args, **kwargs: None, 4900, currency="eur")
        ctx.step.run("nothing", dict)
        ctx.step.transaction("insert", insert, "mug")
        ctx.group.parallel(partial(ctx.step.run, "a", str, 1), partial(ctx.step.run, "b", str, 2))
        ctx.step.run("refuse", declined, "card 7")

    shared.send(Event("order/paid", {}))

    assert given(shared, "charge") == {"args": [4900], "kwargs": {"currency": "eur"}}
    assert given(shared, "nothing") == []
    assert given(shared, "insert") == ["mug"]
    keys = [step.id for step in run_page(shared.runtime, shared.only_run().id).steps]
    assert [given(shared, key) for key in keys if key.endswith(("/a", "/b"))] == [[1], [2]]
    assert given(shared, "refuse") == ["card 7"]


def test_a_step_that_is_tried_again_shows_what_it_was_called_with_while_it_waits(world: World) -> None:
    @world.flow(name="pay", trigger="order/paid", record_inputs=True, backoff=Backoff(first="1h", jitter=0))
    async def pay(ctx: Any) -> Any:
        async def refuse(card: dict[str, str]) -> None:
            card["seen"] = "yes"
            raise ValueError("declined")

        await ctx.step.run("refuse", refuse, {"no": "7"})

    world.send(Event("order/paid", {}))
    assert given(world, "refuse") == [{"no": "7"}]


def test_nothing_is_recorded_and_no_statement_is_longer_where_nobody_asks(world: World) -> None:
    seen: list[str] = []

    @world.flow(name="pay", trigger="order/paid")
    def pay(ctx: Any) -> Any:
        return ctx.step.run("charge", int, 7)

    world.start_worker()
    world.store.observer = seen.append
    world.send(Event("order/paid", {}))
    world.store.observer = None

    assert given(world, "charge") is None
    assert any("INSERT INTO flows_steps" in text for text in seen)
    assert not any("given" in text for text in [*seen, RECORD, RECORD_IN_BRANCH, PUT])


def test_the_setting_is_for_all_flows_and_a_flow_may_leave_it_out() -> None:
    world = World(record_inputs=True)

    @world.flow(name="pay", trigger="order/paid")
    def pay(ctx: Any) -> Any:
        return ctx.step.run("charge", int, 7)

    @world.flow(name="keep", trigger="order/paid", record_inputs=False)
    def keep(ctx: Any) -> Any:
        return ctx.step.run("charge", int, 8)

    world.send(Event("order/paid", {}))
    assert given(world, "charge", world.only_run("pay")) == [7]
    assert given(world, "charge", world.only_run("keep")) is None
    world.close()


def test_what_has_no_json_form_or_is_too_long_is_named_and_harms_no_step(world: World) -> None:
    @world.flow(name="pay", trigger="order/paid", record_inputs=True)
    def pay(ctx: Any) -> Any:
        ctx.step.run("odd", lambda *_, **__: None, Session(), 7, by=Session(), to="ann")
        ctx.step.run("long", len, "x" * MOST)
        return "paid"

    world.send(Event("order/paid", {}))
    assert world.only_run().output == "paid"
    assert given(world, "odd") == {"args": ["<Session>", 7], "kwargs": {"by": "<Session>", "to": "ann"}}
    assert "more than the 16,384" in given(world, "long")


def test_it_is_encrypted_as_every_payload_is(world: World) -> None:
    use(world, OLD)

    @world.flow(name="pay", trigger="order/paid", record_inputs=True)
    def pay(ctx: Any) -> Any:
        ctx.step.run("charge", lambda card: None, SECRET)

    world.send(Event("order/paid", {}))
    assert given(world, "charge") == [SECRET]
    assert SECRET not in raw(world)


def test_what_middleware_made_of_the_arguments_is_what_is_recorded() -> None:
    class Doubling(Middleware):
        def step_input(self, step: StepCall) -> StepCall:
            return replace(step, args=(2 * step.args[0],))

    world = World()
    world.runtime.middleware = (Doubling(),)

    @world.flow(name="pay", trigger="order/paid", record_inputs=True)
    def pay(ctx: Any) -> Any:
        return ctx.step.run("charge", int, 7)

    world.send(Event("order/paid", {}))
    assert (world.only_run().output, given(world, "charge")) == (14, [14])
    world.close()


def test_a_rerun_shows_what_its_kept_steps_and_its_edited_one_were_called_with(shared: World) -> None:
    @shared.flow(name="pay", trigger="order/paid", record_inputs=True)
    def pay(ctx: Any) -> Any:
        ctx.step.run("charge", int, 7)
        return ctx.step.run("ship", str, "mug")

    shared.send(Event("order/paid", {}))
    again = shared.only_run().rerun(from_step="ship", input=["cap"])
    shared.drain()
    eventually(lambda: again.status == "completed")

    assert given(shared, "charge", again) == [7]
    assert given(shared, "ship", again) == ["cap"]
    page = run_page(shared.runtime, again.id)
    held = step_page(shared.runtime, page, "ship")
    assert held is not None
    assert held.input == {"args": ["cap"], "kwargs": {}}


def test_what_is_no_switch_is_refused(world: World) -> None:
    with pytest.raises(DeclarationError, match="record_inputs"):
        world.flow(name="pay", trigger="order/paid", record_inputs="yes")(lambda ctx: None)
