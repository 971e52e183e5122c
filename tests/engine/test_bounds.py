"""Bounds: past each, an error that names the bound, its size, what was met and the setting, and on_failure is told."""

import asyncio

import pytest
from celery import Celery

from celeryflows import BoundExceeded, Event, Flows, InvalidEvent, Status, StepError
from celeryflows.console import runs as desk
from celeryflows.console.run_pages import run_page
from celeryflows.testing import FlowsTester

KIB, MIB = 1024, 1024 * 1024


def size_in_json(text):
    return len(text.encode()) + 2


@pytest.fixture
def told():
    """What on_failure was told."""
    return []


@pytest.fixture
def declare(flows, told):
    """Declares a flow whose failures are told."""

    def declare(handler):
        return flows.flow(name="f", on_failure=lambda ctx: told.append(ctx.event.data["error"]["name"]))(handler)

    return declare


def with_settings(**settings):
    """A Flows of an app with these settings."""
    app = Celery("small", broker="memory://", set_as_current=False)
    app.conf.update({f"flows_{name}": value for name, value in settings.items()})
    return Flows(app)


def test_an_event_of_512_kib_is_taken_and_a_byte_more_is_refused(flows, flows_tester):
    frame = len('{"text":""}')
    fits = "x" * (512 * KIB - frame)

    @flows.flow(trigger="big/event")
    def flow(ctx):
        return len(ctx.event.data["text"])

    assert flows_tester.start(flow, Event("big/event", {"text": fits})).output == len(fits)
    with pytest.raises(InvalidEvent, match=r"Max 524288 bytes / Size 524289 bytes.*flows_max_event_bytes"):
        flows_tester.send("big/event", {"text": fits + "x"})
    assert len(flows_tester.runs()) == 1


def test_an_event_is_measured_in_bytes_not_in_characters(flows, flows_tester):
    with pytest.raises(InvalidEvent, match="Size 600011 bytes"):
        flows_tester.send("big/event", {"text": "漢" * 200_000})


@pytest.mark.parametrize("letter", ["x", "漢"])
def test_a_step_value_of_4_mib_is_kept_and_more_fails_the_step(flows_tester, declare, told, letter):
    fits = letter * ((4 * MIB - 2) // len(letter.encode()))

    def flow(ctx):
        kept = ctx.step.run("fits", lambda: fits)
        ctx.step.run("bursts", lambda: fits + letter)
        return len(kept)

    run = flows_tester.start(declare(flow))

    assert (run.status, run.error.name, run.error.step_id) == (Status.FAILED, "BoundExceeded", "bursts")
    size = size_in_json(fits + letter)
    assert f"value bytes: at most 4,194,304, got {size:,}." in run.error.message
    assert "flows_max_value_bytes" in run.error.message
    assert ([flows_tester.calls(step) for step in ("fits", "bursts")], told) == ([1, 1], ["BoundExceeded"])


def test_a_handler_may_catch_a_value_that_is_too_large(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        try:
            ctx.step.run("bursts", lambda: "x" * (4 * MIB))
        except StepError as error:
            return error.name

    assert flows_tester.start(flow).output == BoundExceeded.__name__


def test_a_flows_own_value_of_more_than_4_mib_fails_the_run(flows_tester, declare, told):
    run = flows_tester.start(declare(lambda ctx: "x" * (4 * MIB)))

    assert (run.status, run.error.name, told) == (Status.FAILED, "BoundExceeded", ["BoundExceeded"])
    assert "the flow's value in bytes: at most 4,194,304, got 4,194,306." in run.error.message
    assert "flows_max_value_bytes" in run.error.message


@pytest.mark.parametrize("letter", ["x", "漢"])
@pytest.mark.parametrize("replays", [False, True], ids=["in one turn", "over turns"])
def test_a_runs_values_of_more_than_32_mib_fail_the_run(flows_tester, declare, told, letter, replays):
    part = letter * (MIB // len(letter.encode()))

    def flow(ctx):
        for number in range(40):
            ctx.step.run("part", lambda: part)
            if replays and number == 20:
                ctx.step.sleep("rest", "1h")

    run = flows_tester.start(declare(flow))
    flows_tester.advance("1h")

    kept = sum(step.state == "done" for step in run.steps)
    assert (run.status, run.error and run.error.name, told) == (Status.FAILED, "BoundExceeded", ["BoundExceeded"])
    assert kept == 32 * MIB // size_in_json(part)
    assert "a run's values in bytes: at most 33,554,432, got" in run.error.message
    assert "flows_max_run_bytes" in run.error.message


@pytest.mark.parametrize("same_id", [True, False], ids=["one id", "many ids"])
def test_a_thousand_steps_are_kept_and_one_more_ends_the_run(flows_tester, declare, told, same_id):
    def flow(ctx):
        for number in range(ctx.event.data["wanted"]):
            ctx.step.run("part" if same_id else f"part {number}", int)
        return "through"

    flow = declare(flow)
    assert flows_tester.start(flow, wanted=1000).output == "through"
    run = flows_tester.start(flow, wanted=1001)

    assert (run.status, run.error.name, told) == (Status.FAILED, "BoundExceeded", ["BoundExceeded"])
    assert "steps in a run: at most 1,000, got 1,001. Raise flows_max_steps." in run.error.message
    assert len(run.steps) == 1000


def test_a_run_that_comes_near_its_bound_of_steps_is_told_of_once_and_on_its_page(caplog):
    flows = with_settings(max_steps=10)

    @flows.flow(name="f")
    def flow(ctx):
        for number in range(7):
            ctx.step.run(f"step {number}", int)
            if number in (4, 6):
                ctx.step.sleep(f"rest {number}", "1h")

    with FlowsTester(flows) as tester:
        run = tester.start(flow)
        assert desk.run(flows.runtime, run.id).steps_left is None
        tester.advance("1h")
        assert desk.run(flows.runtime, run.id).steps_left == run_page(flows.runtime, run.id).steps_left == 1
        (told,) = caplog.messages
        assert f"run {run.id} of f is at its step 8; with more than 10 it fails: raise flows_max_steps" in told
        tester.advance("1h")
        assert (run.status, len(caplog.messages)) == (Status.COMPLETED, 1)
        assert desk.run(flows.runtime, run.id).steps_left is None


def test_steps_of_every_kind_and_of_all_turns_count(told):
    flows = with_settings(max_steps=4)

    @flows.flow(name="f", on_failure=lambda ctx: told.append(1))
    def flow(ctx):
        ctx.step.run("work", int)
        ctx.step.sleep("rest", "1h")
        ctx.step.send_event("tell", Event("x/y"))
        ctx.step.wait_for_event("wait", event="never/comes", timeout="1h")
        ctx.step.run("one more", int)

    with FlowsTester(flows) as tester:
        run = tester.start(flow)
        tester.advance("2h")

        assert (run.status, run.error.message) == (
            Status.FAILED,
            "steps in a run: at most 4, got 5. Raise flows_max_steps.",
        )
        assert (tester.calls("one more"), told) == (0, [1])


def test_the_settings_move_the_bounds():
    flows = with_settings(max_value_bytes=100, max_event_bytes=200, max_run_bytes=150)

    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.run("first", lambda: "x" * 80)
        ctx.step.run("second", lambda: "x" * ctx.event.data["second"])

    with FlowsTester(flows) as tester:
        messages = [tester.start(flow, second=second).error.message for second in (99, 80)]
        assert "at most 100, got 101" in messages[0]
        assert "at most 150, got 164" in messages[1]
        with pytest.raises(InvalidEvent, match="Max 200 bytes"):
            tester.start(flow, text="x" * 200)


@pytest.mark.parametrize("tool", ["sleep", "sleep_until", "wait"])
def test_a_sleep_or_wait_of_367_days_is_refused_at_once_and_fails_the_run(flows_tester, declare, told, tool):
    def flow(ctx):
        if tool == "sleep":
            ctx.step.sleep("long", "367 days")
        elif tool == "sleep_until":
            ctx.step.sleep_until("long", ctx.event.ts.replace(year=ctx.event.ts.year + 2))
        else:
            ctx.step.wait_for_event("long", event="x/y", timeout="367 days")

    run = flows_tester.start(declare(flow))

    assert (run.status, run.error.name, len(told)) == (Status.FAILED, told[0], 1)
    assert "long" in run.error.message
    assert "366 days" in run.error.message


def test_what_is_past_a_bound_in_a_branch_fails_its_step_only(flows, flows_tester):
    @flows.flow
    async def flow(ctx):
        got = await asyncio.gather(
            ctx.step.run("bursts", lambda: "x" * (4 * MIB)),
            ctx.step.run("fits", lambda: "kept"),
            return_exceptions=True,
        )
        return [got[0].name, got[1]]

    assert flows_tester.start(flow).output == ["BoundExceeded", "kept"]
