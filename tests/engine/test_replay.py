"""Changed code under running runs: new steps run, removed ones are ignored, moved ones keep their memo."""

import asyncio
from dataclasses import replace

import pytest

from celeryflows import Event, NondeterminismError, Status


class Versions:
    """A handler whose code changes while its runs sleep."""

    def __init__(self, *codes):
        self.codes = list(codes)

    def deploy(self):
        self.codes.pop(0)

    def __call__(self, ctx):
        return self.codes[0](ctx)


def step(ctx, name):
    return ctx.step.run(name, lambda: name)


def deployed_between(flows, flows_tester, before, after):
    """A run that sleeps once in `before` and goes on in `after`."""
    versions = Versions(before, after)
    run = flows_tester.start(flows.flow(name="f")(lambda ctx: versions(ctx)))
    assert run.status == Status.SUSPENDED
    versions.deploy()
    flows_tester.advance("1h")
    return run


def test_steps_in_another_order_keep_their_values_and_run_once(flows, flows_tester):
    def before(ctx):
        step(ctx, "a")
        step(ctx, "b")
        ctx.step.sleep("rest", "1h")

    def after(ctx):
        got = [step(ctx, "b"), step(ctx, "a")]
        ctx.step.sleep("rest", "1h")
        return [*got, step(ctx, "c")]

    run = deployed_between(flows, flows_tester, before, after)

    assert run.output == ["b", "a", "c"]
    assert [flows_tester.calls(name) for name in "abc"] == [1, 1, 1]


def test_a_new_step_is_run_and_a_removed_one_is_ignored(flows, flows_tester):
    def before(ctx):
        step(ctx, "a")
        step(ctx, "removed")
        ctx.step.sleep("rest", "1h")

    def after(ctx):
        got = [step(ctx, "new"), step(ctx, "a")]
        ctx.step.sleep("rest", "1h")
        return got

    run = deployed_between(flows, flows_tester, before, after)

    assert run.output == ["new", "a"]
    assert [flows_tester.calls(name) for name in ("a", "removed", "new")] == [1, 1, 1]


def test_a_removed_sleep_is_not_slept_again_and_a_renamed_one_is(flows, flows_tester):
    def before(ctx):
        ctx.step.sleep("rest", "1h")

    def after(ctx):
        ctx.step.sleep("renamed", "2h")
        return "through"

    run = deployed_between(flows, flows_tester, before, after)

    assert run.status == Status.SUSPENDED
    flows_tester.advance("2h")
    assert run.output == "through"


def test_a_sleep_made_longer_keeps_the_time_at_which_it_began(flows, flows_tester):
    def before(ctx):
        ctx.step.sleep("rest", "1h")

    def after(ctx):
        ctx.step.sleep("rest", "1 day")
        return "through"

    assert deployed_between(flows, flows_tester, before, after).output == "through"


def test_a_removed_branch_is_ignored_and_a_new_one_is_run(flows, flows_tester):
    names = ["a", "b", "removed"]

    @flows.flow
    async def flow(ctx):
        async def branch(name):
            value = await ctx.step.run(name, lambda: name)
            await ctx.step.sleep(f"rest {name}", "1h")
            return value

        return await asyncio.gather(*(branch(name) for name in names))

    run = flows_tester.start(flow)
    names[2] = "new"
    flows_tester.advance("1h")
    assert run.status == Status.SUSPENDED
    flows_tester.advance("1h")

    assert run.output == ["a", "b", "new"]
    assert [flows_tester.calls(name) for name in ("a", "b", "removed", "new")] == [1, 1, 1, 1]


KINDS = {
    "run": lambda ctx: ctx.step.run("pay", lambda: 1),
    "sleep": lambda ctx: ctx.step.sleep("pay", "1h"),
    "wait": lambda ctx: ctx.step.wait_for_event("pay", event="never/comes", timeout="1h"),
    "send": lambda ctx: ctx.step.send_event("pay", Event("x/y")),
}


@pytest.mark.parametrize(("was", "now"), [(was, now) for was in KINDS for now in KINDS if was != now])
def test_a_memo_of_another_kind_ends_the_run_and_names_both_kinds(flows, flows_tester, was, now):
    def before(ctx):
        KINDS[was](ctx)
        ctx.step.sleep("rest", "1h")

    def after(ctx):
        try:
            KINDS[now](ctx)
        except Exception:
            return "caught"

    run = deployed_between(flows, flows_tester, before, after)

    assert (run.status, run.error.name) == (Status.FAILED, NondeterminismError.__name__)
    assert f"step 'pay' was recorded as a '{was}' step and is now a '{now}' step" in run.error.message


def release(flows_tester, flow, version):
    """Deploys the flow under another version."""
    known = flows_tester._runtime.flows
    known[flow.name] = replace(known[flow.name], definition=replace(known[flow.name].definition, version=version))


def test_a_run_keeps_the_version_under_which_it_started(flows, flows_tester):
    @flows.flow(version="1")
    def flow(ctx):
        ctx.step.sleep("rest", "1h")
        return ctx.version

    old = flows_tester.start(flow)
    release(flows_tester, flow, "2")
    new = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (old.output, new.output) == ("1", "2")


def test_a_handler_may_branch_on_the_version(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        ctx.step.sleep("rest", "1h")
        return step(ctx, "old way" if ctx.version is None else "new way")

    old = flows_tester.start(flow)
    release(flows_tester, flow, "2")
    new = flows_tester.start(flow)
    flows_tester.advance("1h")

    assert (old.output, new.output) == ("old way", "new way")
