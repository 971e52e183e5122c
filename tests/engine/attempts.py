"""When a step of a flow is tried, and what it does each time."""

from datetime import timedelta

SECONDS = timedelta(seconds=1)


class Boom(Exception):
    pass


def moments_of(flows, flows_tester, fail, **options):
    """Runs a flow whose one step calls `fail(attempt)`; the run, and when each attempt was made, in seconds."""
    begun, made = flows_tester.now, []

    def attempt(ctx):
        made.append((flows_tester.now - begun) / SECONDS)
        return fail(ctx.attempt)

    @flows.flow(**options)
    def flow(ctx):
        return ctx.step.run("work", attempt, ctx)

    run = flows_tester.start(flow)
    flows_tester.advance("30 days")
    return run, made


def always(error):
    def fail(_attempt):
        raise error

    return fail


def until(attempt, error=None):
    def fail(now):
        if now < attempt:
            raise error or Boom(f"attempt {now}")
        return f"worked at {now}"

    return fail
