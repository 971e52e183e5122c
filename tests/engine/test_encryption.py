"""Encrypted payloads: no secret stands in the store, keys rotate, and a process without the key harms no run."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from celeryflows import (
    Concurrency,
    Debounce,
    Event,
    NonRetriableError,
    PayloadLocked,
    RateLimit,
    Singleton,
    Status,
    StepError,
    Throttle,
)
from celeryflows.clock import TurnedClock
from celeryflows.console import runs as desk
from celeryflows.console.doctor_store import check_store, look_at
from celeryflows.console.findings import Level
from celeryflows.store.keyring import PLAIN, Keyring
from celeryflows.store.rotation import kept_payloads, rotate
from celeryflows.store.schema import metadata
from tests.engine.sealed import NEW, OLD, SECRET, raw, use
from tests.engine.world import NEW_YEAR, World, store_at

OPEN_TABLES = ("flows_meta", "flows_flows", "flows_crons")


@pytest.fixture
def sealed(world: World) -> World:
    """A world in memory whose payloads are encrypted."""
    use(world, OLD)
    return world


@pytest.fixture
def both(store_url: str) -> Iterator[World]:
    """The same on a store of each kind."""
    world = World(store_at(store_url, TurnedClock(NEW_YEAR)))
    use(world, OLD)
    yield world
    world.close()


def uses_every_tool(world: World) -> list[str]:
    """A flow that puts the secret into each tool, and one that fails with it; the messages of errors that it caught."""
    seen = []

    @world.flow(name="pay", trigger="order/placed", retries=2)
    def pay(ctx):
        card = ctx.event.data["card"]
        assert ctx.step.run("charge", lambda: {"card": card}) == {"card": card}
        try:
            ctx.step.run("refuse", refuse, card)
        except StepError as error:
            seen.append(error.message)
        ctx.step.sleep("settle", "1h")
        ctx.step.send_event("tell", Event("order/told", {"card": card}))
        answer = ctx.step.wait_for_event("answer", event="bank/answered", match="data.card", timeout="1h")
        ctx.step.wait_for_event("never", event="bank/closed", if_exp=f"async.data.card == '{card}'", timeout="1h")
        if ctx.attempt == 0:
            raise ValueError(f"the body stumbles over {card}")
        return {"card": answer.data["card"]}

    @world.flow(name="fail", trigger="order/placed", retries=0, on_failure=lambda ctx: ctx.event.data)
    def fail(ctx):
        raise ValueError(f"cannot charge {ctx.event.data['card']}")

    def refuse(card):
        raise NonRetriableError(f"refused {card}")

    world.start_worker()
    return seen


def test_no_secret_stands_in_the_store_and_every_tool_reads_it_back(both: World):
    seen = uses_every_tool(both)

    both.send(Event("order/placed", {"card": SECRET}))
    both.advance("1h")
    assert SECRET not in raw(both), "while it waits"
    both.send(Event("bank/answered", {"card": SECRET}))
    both.advance("2h")

    paid, failed = both.only_run("pay"), both.only_run("fail")
    assert (paid.status, paid.output) == (Status.COMPLETED, {"card": SECRET})
    assert SECRET in failed.error.message
    assert paid.events[0].data == {"card": SECRET}
    assert both.only_run("fail.on_failure").output["event"]["data"] == {"card": SECRET}
    assert set(seen) == {f"refused {SECRET}"}
    assert SECRET in str(desk.run(both.runtime, paid.id))
    assert SECRET not in raw(both)


def test_cancelled_runs_and_the_options_of_a_call_keep_their_secrets(both: World):
    flow = both.flow(name="f", trigger="go")(lambda ctx: ctx.step.sleep("long", "1h"))
    both.start_worker()

    result = flow.apply_async(kwargs={"card": SECRET}, headers={"card": SECRET})
    both.drain()
    run = both.flows.run(result.id)
    run.cancel()

    assert run.events[0].data == {"card": SECRET}
    assert SECRET not in raw(both)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"rate_limit": RateLimit(1, "1h", key="event.data.card")}, "rate limit: more than 1 in 1 hour; the next"),
        ({"singleton": Singleton("skip", key="event.data.card")}, "singleton: run {first} is there"),
        ({"idempotency": "event.data.card"}, "duplicate: idempotency key has started run {first}"),
        ({"idempotency": "event.data.card", "debounce": Debounce("1s")}, "duplicate: idempotency key has"),
        ({"concurrency": Concurrency(1, key="event.data.card")}, None),
        ({"throttle": Throttle(1, "1h", key="event.data.card")}, None),
    ],
)
def test_limits_by_a_secret_hold_and_tell_it_to_nobody_who_has_no_key(both: World, limit, reason):
    both.flow(name="f", trigger="go", **limit)(lambda ctx: ctx.step.sleep("long", "1m"))
    both.start_worker()
    for _ in range(2):
        both.send(Event("go", {"card": SECRET}))
        both.advance("1s")

    first, second = both.runs()
    assert SECRET not in raw(both)
    assert (second.status == Status.SKIPPED) == (reason is not None)
    assert (second.reason or "").startswith((reason or "").format(first=first.id))


def test_the_outbox_of_a_callers_transaction_is_encrypted(both: World):
    both.flow(name="f", trigger="go")(lambda ctx: ctx.event.data["card"])
    both.start_worker()

    with Session(
        both.store.engine.execution_options(isolation_level="READ COMMITTED")
        if both.store.dialect.name == "postgresql"
        else both.store.engine
    ) as session:
        both.flows.send("go", {"card": SECRET}, transaction=session)
        session.commit()
    both.advance("1s")

    assert both.only_run().output == SECRET
    assert SECRET not in raw(both)


@pytest.mark.parametrize("value", ["abc", 17, True, {"a": [1]}])
def test_waits_match_by_value_over_a_rotation_of_the_keys(sealed: World, value):
    @sealed.flow(name="f", trigger="go")
    def flow(ctx):
        return ctx.step.wait_for_event("w", event="come", match="data.x", timeout="1h").data["n"]

    sealed.start_worker()
    sealed.send("go", {"x": value})
    use(sealed, NEW, OLD)
    sealed.send("go", {"x": value})
    sealed.send("come", {"x": "another", "n": 0})
    sealed.send("come", {"x": value, "n": 1})

    assert [run.output for run in sealed.runs("f")] == [1, 1]


def test_the_hash_of_a_wait_is_another_under_each_key_and_tells_nothing_without_one(sealed: World):
    sealed.flow(name="f", trigger="go")(
        lambda ctx: ctx.step.wait_for_event("w", event="come", match="data.x", timeout="1h")
    )
    sealed.start_worker()
    for keys in ([OLD], [NEW, OLD], [PLAIN, OLD, NEW]):
        use(sealed, *keys)
        sealed.send("go", {"x": 1})

    with sealed.store.connection() as connection:
        hashes = {row[0] for row in connection.execute("SELECT hash FROM flows_waits")}
    assert len(hashes) == 3


def test_a_look_back_finds_what_arrived_before_among_many_others(both: World):
    both.runtime.settings = type(both.runtime.settings)(lookback_candidates=5)

    @both.flow(name="f", trigger="go")
    def flow(ctx):
        return ctx.step.wait_for_event("w", event="come", match="data.x", timeout="1h", lookback="1h").data["n"]

    both.start_worker()
    both.send([Event("come", {"x": f"x{n}", "n": n}) for n in range(30)])
    both.tick()
    both.send("go", {"x": "x28"})

    assert both.only_run().output == 28


def test_rows_from_before_the_keys_are_read_and_runs_under_way_go_on(both: World):
    both.store.transact(lambda tx: tx.flows.seal_under_only(None))
    use(both)
    seen = []

    @both.flow(name="f", trigger="go")
    def flow(ctx):
        seen.append(ctx.step.run("one", lambda: "plain"))
        found = ctx.step.wait_for_event("w", event="come", match="data.x", timeout="1h")
        return [ctx.step.run("two", lambda: "sealed"), found.data["x"]]

    both.start_worker()
    both.send("go", {"x": 1})
    use(both, OLD)
    both.send("come", {"x": 1})

    assert (both.only_run().output, seen) == (["sealed", 1], ["plain", "plain"])


def test_a_process_without_the_key_refuses_to_send_and_names_the_remedy(sealed: World):
    sealed.flow(name="f", trigger="go")(lambda ctx: None)
    sealed.start_worker()
    sealed.send("go")

    use(sealed)
    other = sealed.process()
    with pytest.raises(PayloadLocked, match="flows_encryption_keys"):
        other.send("go")

    assert len(sealed.runs()) == 1


def test_a_process_without_the_key_refuses_calls_and_transactions_too(both: World):
    both.flow(name="f")(lambda ctx: None)
    both.start_worker()
    use(both)
    other = both.process()
    flow = other.flow(name="f")(lambda ctx: None)

    with pytest.raises(PayloadLocked, match="flows_encryption_keys"):
        flow.delay(card=SECRET)
    with both.store.engine.connect() as connection, pytest.raises(PayloadLocked, match="flows_encryption_keys"):
        other.flows.send("go", {"card": SECRET}, transaction=connection)

    assert (both.runs(), both.events()) == ([], [])


def test_a_process_with_a_key_that_nobody_else_has_locks_out_itself_alone(sealed: World):
    sealed.flow(name="f", trigger="go")(lambda ctx: SECRET)
    sealed.start_worker()

    use(sealed, NEW)
    with pytest.raises(PayloadLocked, match="flows_encryption_keys"):
        sealed.process().send("go")
    use(sealed, OLD)
    sealed.send("go")

    assert sealed.only_run().output == SECRET


def test_a_run_that_a_worker_cannot_read_goes_back_to_the_queue_and_is_not_harmed(sealed: World, caplog):
    @sealed.flow(name="f", trigger="go", retries=0)
    def flow(ctx):
        one = ctx.step.run("one", lambda: "first")
        ctx.step.sleep("rest", "1h")
        return one

    sealed.start_worker()
    sealed.send("go", {"card": SECRET})
    run = sealed.only_run()
    for keys in ((), (NEW,)):
        use(sealed, *keys)
        sealed.advance("1h") if run.status is Status.SUSPENDED else take_message_again(sealed)
        assert run.status is Status.QUEUED
        assert "goes back to the queue" in caplog.text
        caplog.clear()

    use(sealed, NEW, OLD)
    take_message_again(sealed)

    assert (run.status, run.output) == (Status.COMPLETED, "first")
    with sealed.store.connection() as connection:
        ((lost, attempt),) = connection.execute("SELECT lost, attempt FROM flows_runs")
    assert (lost, attempt) == (0, 0), "no loss and no attempt was counted"


def take_message_again(world: World) -> None:
    """What recovery does with a queued run whose message is gone."""
    with world.store.connection() as connection:
        for one in connection.messages.unclaimed(0):
            world.broker.send_runs([one.delivery])
    world.drain()


def test_a_memo_that_cannot_be_read_never_reaches_the_handler(sealed: World):
    caught = []

    @sealed.flow(name="f", trigger="go")
    def flow(ctx):
        try:
            ctx.step.run("one", lambda: 1)
        except Exception as error:
            caught.append(error)
        ctx.step.sleep("rest", "1h")

    sealed.start_worker()
    use(sealed, PLAIN, OLD)
    sealed.send("go")
    with sealed.store.connection() as connection:
        connection.execute("UPDATE flows_steps SET value = 'sealed:00000000:xyz' WHERE key = 'one'")
    sealed.advance("1h")

    assert (sealed.only_run().status, caught) == (Status.QUEUED, [])


def test_a_report_without_the_key_says_that_a_payload_is_encrypted(sealed: World):
    sealed.flow(name="f", trigger="go")(lambda ctx: ctx.step.run("one", lambda: 1))
    sealed.flow(name="bad", trigger="go", retries=0)(lambda ctx: 1 / 0)
    sealed.start_worker()
    sealed.send("go")

    use(sealed)
    shown = {run.flow: run for run in desk.runs(sealed.runtime).items}

    assert shown["f"].status is Status.COMPLETED
    assert shown["f"].output["name"] == shown["bad"].error.name == "Encrypted"
    assert "flows_encryption_keys" in shown["bad"].error.message
    assert desk.run(sealed.runtime, shown["f"].id).steps[0].value["name"] == "Encrypted"
    with pytest.raises(PayloadLocked, match="lacks"):
        _ = sealed.only_run("f").output


def test_rotated_keys_leave_nothing_under_the_old_one_and_runs_under_way_go_on(both: World):
    @both.flow(name="f", trigger="go")
    def flow(ctx):
        one = ctx.step.run("one", lambda: SECRET)
        found = ctx.step.wait_for_event("w", event="come", match="data.x", timeout="1h")
        return [one, found.data["x"]]

    both.start_worker()
    for n in range(5):
        both.send("go", {"x": n})
    old = Keyring([OLD]).writes_under
    use(both, NEW, OLD)
    told = []
    assert rotate(both.store, lambda *now: told.append(now), piece=2) > 0
    assert f"sealed:{old}" not in raw(both)
    assert ("flows_runs", 5) in [(table, seen) for table, seen, _ in told]

    use(both, NEW)
    for n in range(5):
        both.send("come", {"x": n})
    assert [run.output for run in both.runs("f")] == [[SECRET, n] for n in range(5)]
    assert rotate(both.store, lambda *_: None) == 0


def test_encryption_can_be_ended(sealed: World):
    sealed.flow(name="f", trigger="go")(lambda ctx: SECRET)
    sealed.start_worker()
    sealed.send("go")

    use(sealed, PLAIN, OLD)
    rotate(sealed.store, lambda *_: None)
    use(sealed)

    assert sealed.only_run().output == SECRET
    assert SECRET in raw(sealed)
    assert "sealed:" not in raw(sealed)


def test_a_rotation_without_the_old_key_stops_and_changes_nothing_it_cannot_read(sealed: World):
    sealed.flow(name="f", trigger="go")(lambda ctx: SECRET)
    sealed.start_worker()
    sealed.send("go")

    sealed.store.sealer = Keyring([NEW])
    with pytest.raises(PayloadLocked, match="flows_events"):
        rotate(sealed.store, lambda *_: None)

    sealed.store.sealer = Keyring([OLD])
    assert sealed.only_run().output == SECRET


@pytest.mark.parametrize(
    ("keys", "level", "words"),
    [
        ([OLD], Level.OK, "encrypted under the key"),
        ([NEW, OLD], Level.OK, "older ones may be under"),
        ([PLAIN, OLD], Level.OK, "not encrypted any more"),
        ([NEW], Level.BAD, "lacks"),
        ([], Level.BAD, "flows_encryption_keys"),
    ],
)
def test_the_doctor_says_whether_payloads_are_encrypted(sealed: World, keys, level, words):
    sealed.store.sealer = Keyring(keys) if keys else None

    (finding,) = [f for f in check_store(look_at(sealed.store, sealed.runtime.settings)) if f.subject == "payloads"]

    assert finding.level is level
    assert words in finding.text


def test_every_text_of_the_schema_is_sealed_or_known_to_hold_nothing_of_users():
    long = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if type(column.type).__name__ == "Text"
    }
    kept = {f"{one.name}.{column}" for one in kept_payloads() for column in one.payloads}

    ours = {"flows_flows.definition", "flows_crons.definition", "flows_workers.queues", "flows_runs.reason"}
    assert long - kept == ours
