"""Today's code is run over recorded histories: what would break is told, what differs is told, and no step is done."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celeryflows import FlowsError
from celeryflows.console.history import export
from celeryflows.testing import HistoryReport, check_history
from tests.engine.world import Process, World

Deploy = Callable[..., Process]


@pytest.fixture
def deploy(world: World) -> Iterator[Deploy]:
    """Puts another handler in place of the world's flow `f`, whose steps may not be done."""

    def put(handler: Any, **options: Any) -> Process:
        newer = world.process()
        newer.flow(name="f", trigger="a/b", **options)(handler)
        return newer

    return put


def record(world: World, handler: Any, **options: Any) -> None:
    """Run a handler of flow `f` to where it waits or ends."""
    world.flow(name="f", trigger="a/b", **options)(handler)
    world.send("a/b", {"n": 1})


def findings(report: HistoryReport) -> list[tuple[str, str | None]]:
    return [(finding.what, finding.step) for run in report for finding in run.findings]


def never(*_: Any) -> None:
    raise AssertionError("a step was done")


def two(ctx: Any) -> Any:
    a = ctx.step.run("a", lambda: 1)
    ctx.step.sleep("nap", "1h")
    return [a, ctx.step.run("b", lambda: 2)]


def two_undone(ctx: Any) -> Any:
    a = ctx.step.run("a", never)
    ctx.step.sleep("nap", "1h")
    return [a, ctx.step.run("b", never)]


def test_the_same_code_fits_an_ended_and_an_open_run_and_does_no_step(world: World, deploy: Deploy) -> None:
    record(world, two)
    world.advance("2h")
    world.send("a/b", {"n": 2})

    report = check_history(deploy(two_undone).flows)

    assert [(run.status, run.findings) for run in report] == [("suspended", ()), ("completed", ())]
    assert report.ok
    assert str(report) == "2 runs checked, 0 would break"


@pytest.mark.parametrize("advance", ["0s", "2h"])
def test_a_step_of_another_kind_under_the_same_id_breaks(world: World, deploy: Deploy, advance: str) -> None:
    record(world, two)
    world.advance(advance)

    report = check_history(deploy(lambda ctx: ctx.step.sleep("a", "1h")).flows)

    assert findings(report) == [("kind", "a")]
    assert not report.ok
    assert "was recorded as a 'run' step and is now a 'sleep' step" in str(report)


@pytest.mark.parametrize("advance", ["0s", "2h"])
def test_a_step_that_is_not_asked_for_any_more_is_told_and_breaks_nothing(
    world: World, deploy: Deploy, advance: str
) -> None:
    record(world, two)
    world.advance(advance)

    def without(ctx: Any) -> Any:
        ctx.step.sleep("nap", "1h")
        return [1, ctx.step.run("b", never)]

    report = check_history(deploy(without).flows)

    assert findings(report) == [("removed", "a")]
    assert report.ok
    assert report.differences == report.runs


@pytest.mark.parametrize(("advance", "unseen"), [("0s", 1), ("2h", 2)])
def test_a_new_step_in_front_of_recorded_ones_is_told(world: World, deploy: Deploy, advance: str, unseen: int) -> None:
    record(world, two)
    world.advance(advance)

    def longer(ctx: Any) -> Any:
        ctx.step.run("a", never)
        ctx.step.run("new", never)
        ctx.step.sleep("nap", "1h")

    report = check_history(deploy(longer).flows)

    assert findings(report) == [("added", "new")]
    assert report.ok
    assert f"{unseen} recorded steps behind it were not looked at" in str(report)


def test_a_new_step_at_the_end_of_a_completed_run_is_told(world: World, deploy: Deploy) -> None:
    record(world, lambda ctx: ctx.step.run("a", int))

    def longer(ctx: Any) -> Any:
        ctx.step.run("a", never)
        ctx.step.run("new", never)

    assert findings(check_history(deploy(longer).flows)) == [("added", "new")]


def test_a_new_step_where_an_open_run_stands_is_no_news(world: World, deploy: Deploy) -> None:
    world.flow(name="f", trigger="a/b")(lambda ctx: ctx.step.run("a", int))
    world.flows.send("a/b")

    assert findings(check_history(deploy(two_undone).flows)) == []


@pytest.mark.parametrize("advance", ["0s", "2h"])
def test_an_error_in_the_handler_breaks(world: World, deploy: Deploy, advance: str) -> None:
    record(world, two)
    world.advance(advance)

    report = check_history(deploy(lambda ctx: ctx.step.run("a", never)["x"]).flows)

    assert findings(report) == [("error", None)]
    assert not report.ok
    assert "the handler raises TypeError" in str(report)


def test_the_error_that_the_run_failed_with_breaks_nothing(world: World, deploy: Deploy) -> None:
    def fails(ctx: Any) -> Any:
        ctx.step.run("a", lambda: {}["x"])

    record(world, fails, retries=0)

    assert findings(check_history(deploy(lambda ctx: ctx.step.run("a", never)).flows)) == []


def test_another_error_than_the_run_failed_with_breaks(world: World, deploy: Deploy) -> None:
    record(world, lambda ctx: ctx.step.run("a", int) / 0, retries=0)

    assert findings(check_history(deploy(lambda ctx: ctx.step.run("a", never)["x"]).flows)) == [("error", None)]


def test_another_value_at_the_end_is_told(world: World, deploy: Deploy) -> None:
    record(world, lambda ctx: ctx.step.run("a", lambda: 1))

    report = check_history(deploy(lambda ctx: ctx.step.run("a", never) + 1).flows)

    assert findings(report) == [("output", None)]
    assert report.ok
    assert "the value at the end is 2, it was 1" in str(report)


def test_a_value_that_cannot_be_stored_any_more_breaks(world: World, deploy: Deploy) -> None:
    record(world, lambda ctx: 1)

    assert findings(check_history(deploy(lambda ctx: object()).flows)) == [("error", None)]


def test_waits_are_answered_from_the_record(world: World, deploy: Deploy) -> None:
    def handler(ctx: Any) -> Any:
        came = ctx.step.wait_for_event("answer", event="a/answer", timeout="1h")
        missed = ctx.step.wait_for_event("never", event="a/never", timeout="1h")
        return [came.data, missed]

    record(world, handler)
    assert check_history(deploy(handler).flows).differences == ()
    world.send("a/answer", {"n": 5})
    world.advance("2h")

    assert findings(check_history(deploy(handler).flows)) == []
    assert findings(check_history(deploy(lambda ctx: handler(ctx)[0]["m"]).flows)) == [("error", None)]


@pytest.mark.parametrize("is_waiting", [True, False])
def test_a_run_that_was_cancelled_while_it_waited_got_no_further(
    world: World, deploy: Deploy, is_waiting: bool
) -> None:
    def handler(ctx: Any) -> Any:
        if is_waiting:
            ctx.step.wait_for_event("answer", event="a/answer", timeout="1h")
        else:
            ctx.step.sleep("nap", "1h")
        ctx.step.run("after", never)

    record(world, handler)
    world.only_run().cancel()
    world.advance("2h")

    assert findings(check_history(deploy(handler).flows)) == []


def test_a_step_between_two_attempts_is_where_the_run_stands(world: World, deploy: Deploy) -> None:
    record(world, lambda ctx: ctx.step.run("a", lambda: 1 / 0))

    assert findings(check_history(deploy(two_undone).flows)) == []


def test_steps_of_an_async_flow_are_checked_at_once(world: World, deploy: Deploy) -> None:
    async def handler(ctx: Any) -> Any:
        found = await asyncio.gather(ctx.step.run("a", int), ctx.step.run("b", int), ctx.step.sleep("nap", "1h"))
        return [*found, await ctx.step.run("c", int)]

    async def fewer(ctx: Any) -> Any:
        await asyncio.gather(ctx.step.run("a", never), ctx.step.sleep("nap", "1h"))
        return [0, 0, None, await ctx.step.run("c", never)]

    record(world, handler)
    assert findings(check_history(deploy(handler).flows)) == []
    assert findings(check_history(deploy(fewer).flows)) == [("removed", "b")]
    world.advance("2h")
    assert findings(check_history(deploy(handler).flows)) == []
    assert findings(check_history(deploy(fewer).flows)) == [("removed", "b")]


def test_a_flow_that_is_gone_breaks_its_open_runs_alone(world: World) -> None:
    record(world, two)
    world.advance("2h")
    world.send("a/b", {"n": 2})
    newer = world.process()

    report = check_history(newer.flows)

    assert [(run.status, [f.what for f in run.findings]) for run in report] == [
        ("suspended", ["flow"]),
        ("completed", []),
    ]


def test_the_version_lets_a_handler_keep_its_old_runs_whole(world: World, deploy: Deploy) -> None:
    record(world, two, version="1")

    def branching(ctx: Any) -> Any:
        return two_undone(ctx) if ctx.version == "1" else ctx.step.run("nap", never)

    assert check_history(deploy(branching, version="2").flows).differences == ()


def test_a_check_writes_nothing_and_says_nothing(
    world: World, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    def talks(ctx: Any) -> Any:
        ctx.logger.warning("here")
        return two(ctx)

    record(world, talks)
    before = list(export(world.runtime))
    caplog.clear()
    check_history(deploy(talks).flows)

    assert list(export(world.runtime)) == before
    assert caplog.records == []


def test_invoked_runs_and_signals_are_answered_from_the_record(world: World, deploy: Deploy) -> None:
    def handler(ctx: Any) -> Any:
        null = ctx.step.invoke("child", "child", {"n": 1})
        signal = ctx.step.wait_for_signal("go", "go", timeout="1h")
        missed = ctx.step.wait_for_signal("stay", "stay", timeout="1h")
        try:
            ctx.step.invoke("bad", "nobody")
        except Exception as error:
            return [null, signal.data, missed, str(error)]

    world.flow(name="child")(lambda ctx: None)
    record(world, handler)
    assert findings(check_history(deploy(handler).flows, flow="f")) == []
    world.flows.signal("go", {"x": 1})
    world.advance("2h")

    newer = deploy(handler).flows
    assert world.runs("f")[0].output[:3] == [None, {"x": 1}, None]
    assert findings(check_history(newer, flow="f")) == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_went_on_as_another_ends_there(world: World, deploy: Deploy, is_async: bool) -> None:
    def handler(ctx: Any) -> Any:
        if ctx.step.run("n", lambda: ctx.event.data["n"]) < 3:
            ctx.continue_as_new({"n": ctx.event.data["n"] + 1})

    async def async_handler(ctx: Any) -> Any:
        if await ctx.step.run("n", lambda: ctx.event.data["n"]) < 3:
            await ctx.continue_as_new({"n": ctx.event.data["n"] + 1})

    record(world, async_handler if is_async else handler)
    report = check_history(deploy(async_handler if is_async else handler).flows)

    assert len(report.runs) == 3
    assert report.differences == ()


# --- groups


def fan(ctx: Any, body: Any = int) -> Any:
    """A group of which the second branch sleeps between two steps, then a race, then a step."""

    def second() -> Any:
        ctx.step.run("x", body)
        ctx.step.sleep("nap", "1h")
        return ctx.step.run("y", body)

    found = ctx.group.parallel(lambda: ctx.step.run("x", body), second)
    return fan_behind(ctx, body, found)


def fan_behind(ctx: Any, body: Any, found: Any) -> Any:
    first = ctx.group.race(lambda: ctx.step.sleep("long", "5h"), lambda: ctx.step.run("fast", body), name="r")
    return [found, first, ctx.step.run("end", body)]


@pytest.mark.parametrize("advance", ["0s", "9h"])
def test_the_branches_of_groups_are_checked_without_doing_their_steps(
    world: World, deploy: Deploy, advance: str
) -> None:
    record(world, fan)
    world.advance(advance)

    assert findings(check_history(deploy(lambda ctx: fan(ctx, never)).flows)) == []


@pytest.mark.parametrize("advance", ["0s", "9h"])
def test_a_change_inside_a_branch_is_told_with_its_step(world: World, deploy: Deploy, advance: str) -> None:
    record(world, fan)
    world.advance(advance)

    def changed(ctx: Any) -> Any:
        def second() -> Any:
            ctx.step.sleep("nap", "1h")
            return ctx.step.run("y", never)

        return fan_behind(ctx, never, ctx.group.parallel(lambda: ctx.step.sleep("x", "1h"), second))

    report = check_history(deploy(changed).flows)

    assert findings(report) == [("kind", "x"), ("removed", "group[1]/x")]


def test_a_group_that_is_gone_is_told_once(world: World, deploy: Deploy) -> None:
    record(world, fan)
    world.advance("9h")

    report = check_history(deploy(lambda ctx: ctx.step.run("end", never)).flows)

    assert [step for what, step in findings(report) if what == "removed"] == ["group", "group.r"]


def test_the_branches_of_an_async_flow_are_checked(world: World, deploy: Deploy) -> None:
    def handler(body: Any, last: str = "y") -> Any:
        async def flow(ctx: Any) -> Any:
            async def branch() -> Any:
                await ctx.step.run("x", body)
                return await ctx.step.run(last, body)

            return await ctx.group.parallel(branch, branch)

        return flow

    record(world, handler(int))

    assert findings(check_history(deploy(handler(never)).flows)) == []
    assert findings(check_history(deploy(handler(never, "z")).flows)) == [
        ("added", "group[0]/z"),
        ("added", "group[1]/z"),
    ]


# --- which runs


def test_runs_are_chosen_by_flow_status_and_number(world: World, deploy: Deploy) -> None:
    world.flow(name="g", trigger="a/b")(lambda ctx: None)
    record(world, two)
    world.send([*[]])
    for n in range(3):
        world.send("a/b", {"n": n})
    world.runs("f")[0].cancel()
    flows = deploy(two_undone).flows
    flows.flow(lambda ctx: None, name="g", trigger="a/b")

    def count(**chosen: Any) -> int:
        return len(check_history(flows, **chosen).runs)

    assert count() == 8
    assert count(flow="f") == 4
    assert count(flow="f", status="open") == 3
    assert count(status="cancelled") == 1
    assert count(limit=3) == 3
    assert [run.run_id for run in check_history(flows, flow="f", limit=1)] == [world.runs("f")[-1].id]


def test_an_export_is_checked_without_its_store(world: World, deploy: Deploy, tmp_path: Path) -> None:
    record(world, two)
    world.advance("2h")
    world.send("a/b", {"n": 2})
    file = tmp_path / "histories.jsonl"
    file.write_text("".join(f"{line}\n" for line in export(world.runtime)))
    flows = deploy(lambda ctx: ctx.step.sleep("a", "1h")).flows
    fits = deploy(two_undone).flows
    world.store_rows("DELETE FROM flows_runs RETURNING id")

    assert findings(check_history(flows, file)) == [("kind", "a")] * 2
    assert findings(check_history(fits, str(file))) == []
    assert len(check_history(fits, file, status="open").runs) == 1
    assert len(check_history(fits, file, flow="nobody").runs) == 0


@pytest.mark.parametrize("line", ["{}", "[]", "{", '{"format": "celeryflows-history/9"}'])
def test_a_file_that_is_no_export_says_so(world: World, tmp_path: Path, line: str) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text(line)

    with pytest.raises(FlowsError, match=r"no line of a history export|this celeryflows reads"):
        check_history(world.flows, file)
