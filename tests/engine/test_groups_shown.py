"""Groups in a run's history: a branch's steps stand below their group, and what a race closed is closed."""

from functools import partial
from io import StringIO

from rich.console import Console

from celeryflows.cli.timeline import draw
from celeryflows.console import runs as desk


def nap(ctx, seconds):
    ctx.step.sleep("nap", f"{seconds}s")


def test_steps_of_branches_stand_below_their_group_in_order(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        def two(n):
            ctx.step.run("b", lambda: n)
            ctx.group.race(partial(nap, ctx, 1), partial(nap, ctx, 60))
            ctx.step.run("a", lambda: n)

        ctx.step.run("before", lambda: 0)
        ctx.group.parallel(partial(two, 0), partial(two, 1))
        ctx.step.run("after", lambda: 0)

    run = flows_tester.start(flow)
    flows_tester.advance("1s")
    detail = desk.run(flows.runtime, run.id)
    below = ["b", "group", "group[0]/nap", "group[1]/nap", "a"]
    ids = ["before", "group", *(f"group[{n}]/{id}" for n in range(2) for id in below), "after"]
    assert [step.id for step in detail.steps] == ids

    standing = {step.id: step.standing for step in detail.steps}
    assert (standing["group"], standing["group[0]/group"]) == ("done", "done")
    assert (standing["group[0]/group[0]/nap"], standing["group[0]/group[1]/nap"]) == ("slept", "closed")
    assert all(step.until is not None for step in detail.steps)
    flows_tester.advance("1 day")
    (closed,) = (step for step in desk.run(flows.runtime, run.id).steps if step.id == "group[0]/group[1]/nap")
    assert closed.standing == "closed"


def test_an_open_group_waits_in_the_picture_with_its_branches_indented(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        ctx.group.parallel(partial(nap, ctx, 60), partial(ctx.group.parallel, [partial(nap, ctx, 90)]), name="pay")

    run = flows_tester.start(flow)
    console = Console(width=120, record=True, file=StringIO())
    console.print(draw(desk.run(flows.runtime, run.id), console))
    lines = console.export_text().splitlines()
    (group,) = (line for line in lines if line.startswith("group.pay"))
    assert "parallel" in group
    assert "waiting" in group
    assert [line.partition("sleep")[0].rstrip() for line in lines if "nap" in line] == ["  [0] nap", "    [0] nap"]


def test_a_rerun_from_a_step_behind_a_group_runs_no_step_of_its_branches_again(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        values = ctx.group.parallel(partial(ctx.step.run, "a", lambda n=n: n) for n in range(3))
        return ctx.step.run("sum", sum, values)

    run = flows_tester.start(flow)
    again = flows.run(run.id).rerun(from_step="sum")
    flows_tester.advance("0s")
    assert flows.run(again.id).output == 3
    assert (flows_tester.calls("a"), flows_tester.calls("sum")) == (3, 2)
