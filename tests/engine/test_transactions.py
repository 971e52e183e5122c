"""step.transaction: what a function writes and the memo of its step commit together, in the tester's store too."""

import asyncio
import contextlib
from functools import partial

import pytest
from sqlalchemy import Column as NewColumn
from sqlalchemy import Connection, Integer, MetaData, String, Table, column, func, insert, select, table, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from celeryflows import Event, FlowsError, NonRetriableError, Status, StepError

accounts = table("accounts", column("name"), column("amount"))


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    amount: Mapped[int]


class Boom(Exception):
    pass


@pytest.fixture(autouse=True)
def made(flows_tester):
    with flows_tester.transaction() as connection:
        Base.metadata.create_all(connection)


@pytest.fixture
def rows(flows_tester):
    """Gives what stands in the accounts."""

    def read():
        with flows_tester.transaction() as connection:
            return [tuple(row) for row in connection.execute(select(accounts).order_by(column("name")))]

    return read


def book(connection, name, amount=1):
    connection.execute(insert(accounts).values(name=name, amount=amount))
    return connection.scalar(select(func.count()).select_from(accounts)), (name,)


def test_what_is_written_and_the_value_are_there_once_over_any_number_of_replays(flows, flows_tester, rows):
    values = []

    @flows.flow
    def flow(ctx):
        values.append(ctx.step.transaction("book", book, "a", amount=5))
        ctx.step.sleep("nap", "1h")

    run = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert run.status == Status.COMPLETED
    # A tuple is a list at once, as everywhere.
    assert values == [[1, ["a"]]] * 2
    assert rows() == [("a", 5)]
    assert flows_tester.calls("book") == 1
    assert [(step.kind, step.state) for step in run.steps if step.id == "book"] == [("transaction", "done")]


def test_an_async_flow_runs_it_in_a_thread_beside_other_steps(flows, flows_tester, rows):
    @flows.flow
    async def flow(ctx):
        return await asyncio.gather(
            ctx.step.transaction("a", book, "a"), ctx.step.run("other", lambda: 7), ctx.step.transaction("b", book, "b")
        )

    run = flows_tester.start(flow)

    assert sorted(value[1][0] for value in run.output[::2]) == ["a", "b"]
    assert rows() == [("a", 1), ("b", 1)]


def test_an_error_rolls_back_and_is_tried_again(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        def twice_wrong(connection):
            book(connection, f"attempt {ctx.attempt}")
            if ctx.attempt < 2:
                raise Boom

        ctx.step.transaction("book", twice_wrong)

    run = flows_tester.start(flow)
    assert rows() == []
    flows_tester.advance("1m")

    assert run.status == Status.COMPLETED
    assert rows() == [("attempt 2", 1)]


@pytest.mark.parametrize("error", [NonRetriableError("no"), Boom("no")])
def test_a_transaction_whose_attempts_are_spent_leaves_nothing_and_is_catchable(flows, flows_tester, rows, error):
    def wrong(connection):
        book(connection, "a")
        raise error

    @flows.flow
    def flow(ctx):
        with pytest.raises(StepError) as caught:
            ctx.step.using(retries=1).transaction("book", wrong)
        return caught.value.name

    run = flows_tester.start(flow)
    flows_tester.advance("1m")

    assert run.output == type(error).__name__
    assert rows() == []
    assert flows_tester.calls("book") == (1 if isinstance(error, NonRetriableError) else 2)


@pytest.mark.parametrize("value", [object(), "x" * (4 * 1024 * 1024), 10**30])
def test_a_value_that_cannot_be_recorded_rolls_back_and_is_not_tried_again(flows, flows_tester, rows, value):
    def make(connection):
        book(connection, "a")
        return value

    @flows.flow
    def flow(ctx):
        ctx.step.transaction("book", make)

    run = flows_tester.start(flow)

    assert run.error.name == ("BoundExceeded" if isinstance(value, str) else "NotStorable")
    assert flows_tester.calls("book") == 1
    assert rows() == []


def test_its_value_may_have_an_output_type_that_is_checked_before_the_commit(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        typed = ctx.step.using(output_type=tuple[int, str])
        good = typed.transaction("good", lambda c: (book(c, "a")[0], "a"))
        try:
            typed.transaction("bad", lambda c: book(c, "b"))
        except StepError as error:
            return isinstance(good, tuple), error.name

    assert flows_tester.start(flow).output == [True, "InvalidOutput"]
    assert rows() == [("a", 1)]


def test_a_rerun_with_edited_input_gives_its_arguments_behind_the_connection(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        return ctx.step.transaction("book", book, "a", amount=1)

    flows_tester.start(flow).rerun(from_step="book", input={"name": "b", "amount": 2})
    flows_tester.advance("0s")

    assert rows() == [("a", 1), ("b", 2)]


# -- crashes


def test_a_worker_that_dies_before_the_commit_leaves_nothing_and_it_is_done_again(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        return ctx.step.transaction("book", book, "a")

    flows_tester.crash_in("book")
    run = flows_tester.start(flow)

    assert run.output == [1, ["a"]]
    assert rows() == [("a", 1)]
    assert flows_tester.calls("book") == 2


def test_a_worker_that_dies_after_the_commit_has_done_it(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        return ctx.step.transaction("book", book, "a")

    flows_tester.crash_after("book")
    run = flows_tester.start(flow)

    assert run.output == [1, ["a"]]
    assert rows() == [("a", 1)]
    assert flows_tester.calls("book") == 1


@pytest.mark.parametrize("when", ["in", "after"])
def test_async_flows_survive_the_same_crashes(flows, flows_tester, rows, when):
    @flows.flow
    async def flow(ctx):
        return await ctx.step.transaction("book", book, "a")

    (flows_tester.crash_in if when == "in" else flows_tester.crash_after)("book")
    run = flows_tester.start(flow)

    assert run.output == [1, ["a"]]
    assert rows() == [("a", 1)]


# -- sessions


def place(session: Session, name: str) -> int:
    account = Account(name=name, amount=3)
    session.add(account)
    session.flush()
    return account.id


def place_and_commit(session: Session) -> None:
    session.add(Account(name="committed", amount=3))
    session.commit()


def place_and_leave(session: "orm.Session", other: "a.name.that.nobody.has | None" = None) -> None:  # noqa: F821
    session.add(Account(name="left", amount=3))


def place_by_hand(connection: Connection) -> None:
    with Session(bind=connection) as session:
        session.add(Account(name="by hand", amount=3))
        session.commit()


def test_a_function_annotated_for_a_session_gets_one_which_is_flushed(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        found = ctx.step.transaction("add", place, "added")
        ctx.step.transaction("commit", place_and_commit)
        ctx.step.transaction("leave", partial(place_and_leave))
        ctx.step.transaction("hand", place_by_hand)
        return found

    assert flows_tester.start(flow).output == 1
    assert rows() == [("added", 3), ("by hand", 3), ("committed", 3), ("left", 3)]


def test_what_a_session_committed_is_rolled_back_with_the_step(flows, flows_tester, rows):
    def commit_and_fail(session: Session):
        place_and_commit(session)
        raise Boom

    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.transaction("add", commit_and_fail)

    assert flows_tester.start(flow).error.name == "Boom"
    assert rows() == []


def test_a_savepoint_of_the_users_may_fail_alone(flows, flows_tester, rows):
    def part(connection):
        book(connection, "kept")
        try:
            with connection.begin_nested():
                book(connection, "lost")
                raise Boom
        except Boom:
            pass

    @flows.flow
    def flow(ctx):
        ctx.step.transaction("book", part)

    assert flows_tester.start(flow).status == Status.COMPLETED
    assert rows() == [("kept", 1)]


# -- misuse


def commit(connection):
    book(connection, "a")
    connection.commit()


def commit_in_silence(connection):
    with contextlib.suppress(FlowsError):
        commit(connection)


def roll_back(connection):
    book(connection, "a")
    connection.rollback()


def roll_back_and_go_on(connection):
    roll_back(connection)
    book(connection, "b")


def commit_by_text(connection):
    book(connection, "a")
    connection.exec_driver_sql("ROLLBACK")


def close(connection):
    connection.close()


def roll_the_session_back(session: Session):
    session.add(Account(name="a", amount=1))
    session.flush()
    session.rollback()


@pytest.mark.parametrize(
    "wrong", [commit, commit_in_silence, roll_back, roll_back_and_go_on, commit_by_text, close, roll_the_session_back]
)
def test_a_function_that_ends_the_transaction_itself_ends_the_run_and_leaves_nothing(flows, flows_tester, rows, wrong):
    @flows.flow
    def flow(ctx):
        try:
            ctx.step.transaction("book", wrong)
        except Exception:
            return "swallowed"

    run = flows_tester.start(flow)

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")
    assert "leave the commit to" in run.error.message
    assert rows() == []
    assert flows_tester.start(flow).status == Status.FAILED


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("outer", ["run", "transaction"])
def test_a_transaction_in_a_step_and_a_step_in_a_transaction_are_refused_by_both_names(
    flows, flows_tester, rows, outer, is_async
):
    def nest(step, *given):
        call = step.transaction("inner", book, "a") if outer == "run" else step.run("inner", int)
        return asyncio.run(call) if is_async else call

    @flows.flow
    def flow(ctx):
        getattr(ctx.step, outer)("outer", (lambda c: nest(ctx.step)) if outer == "transaction" else nest, *args(ctx))

    @flows.flow
    async def async_flow(ctx):
        await getattr(ctx.step, outer)(
            "outer", (lambda c: nest(ctx.step)) if outer == "transaction" else nest, *args(ctx)
        )

    def args(ctx):
        return () if outer == "transaction" else (ctx.step,)

    run = flows_tester.start(async_flow if is_async else flow)

    assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")
    assert "'inner'" in run.error.message
    assert "'outer'" in run.error.message
    assert rows() == []


def test_a_timeout_is_refused_with_the_remedy(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        ctx.step.using(timeout="1s").transaction("book", book, "a")

    run = flows_tester.start(flow)

    assert run.error.name == "StepMisuse"
    assert "statement_timeout" in run.error.message
    assert rows() == []


async def later(connection):
    pass


@pytest.mark.parametrize("wrong", [later, "text", {"task": "x"}])
def test_what_is_no_plain_function_is_refused(flows, flows_tester, wrong):
    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.transaction("book", wrong)

    run = flows_tester.start(flow)

    assert (run.status, run.error.name) == (Status.FAILED, "TypeError")
    assert "'book'" in run.error.message


def test_a_memo_of_a_plain_step_is_no_transactions(flows, flows_tester, rows):
    kinds = ["run", "transaction"]

    @flows.flow
    def flow(ctx):
        getattr(ctx.step, kinds[0])("book", lambda *_: 1)
        ctx.step.sleep("nap", "1h")

    run = flows_tester.start(flow)
    del kinds[0]
    flows_tester.advance("1h")

    assert run.error.name == "NondeterminismError"
    assert "'transaction'" in run.error.message


# -- the kit, and sending inside


def test_it_is_stubbed_and_counted_as_any_step(flows, flows_tester, rows):
    @flows.flow
    def flow(ctx):
        return ctx.step.transaction("book", book, "a"), ctx.step.transaction("more", book, "b")

    def instead(connection, name):
        return book(connection, f"instead of {name}")[0]

    run = flows_tester.start(flow, steps={"book": "stubbed", "more": instead})

    assert run.output == ["stubbed", 1]
    assert rows() == [("instead of b", 1)]
    assert flows_tester.calls("book") == 1


@pytest.mark.parametrize("given", ["transaction", "nothing"])
@pytest.mark.parametrize("fails", [False, True])
def test_an_event_that_is_sent_inside_belongs_to_it(flows, flows_tester, rows, given, fails):
    @flows.flow(trigger="account/booked")
    def told(ctx):
        return ctx.event.data["name"]

    def book_and_tell(connection):
        book(connection, "a")
        more = {"transaction": connection} if given == "transaction" else {}
        flows.send(Event("account/booked", {"name": "a"}), **more)
        if fails:
            raise Boom

    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.transaction("book", book_and_tell)

    flows_tester.start(flow)
    flows_tester.advance("1m")

    assert [run.output for run in flows_tester.runs(told)] == ([] if fails else ["a"])
    assert rows() == ([] if fails else [("a", 1)])


def test_tables_may_be_made_by_text_and_by_core(flows_tester):
    notes = Table("notes", MetaData(), NewColumn("line", String(20)))
    with flows_tester.transaction() as connection:
        notes.create(connection)
        connection.execute(text("INSERT INTO notes VALUES ('kept')"))

    def write_and_fail():
        with flows_tester.transaction() as connection:
            connection.execute(notes.insert().values(line="lost"))
            raise Boom

    with pytest.raises(Boom):
        write_and_fail()
    with flows_tester.transaction() as connection:
        assert connection.scalars(select(notes.c.line)).all() == ["kept"]
