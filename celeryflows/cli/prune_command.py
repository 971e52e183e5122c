"""`flows prune`: forget old runs and events now, a bounded piece at a time."""

import click

from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import WrongUsage, runtime_of
from celeryflows.durations import format_duration, parse_duration, parse_moment
from celeryflows.engine.runtime import Runtime
from celeryflows.scheduler.retention import Old, forget


@click.command("prune")
@click.option("--before", help="What ended before this moment: ISO text with a zone.")
@click.option("--older-than", help='What ended so long ago, such as "30d". Default: flows_retention.')
@click.option("--flow", help="Runs of this flow alone, with the events that only they hold.")
@click.option("--dry-run", is_flag=True, help="Count the runs that would go, and change nothing.")
@click.pass_context
def prune(ctx: click.Context, before: str | None, older_than: str | None, flow: str | None, *, dry_run: bool) -> None:
    """Delete ended runs with their steps and waits, then the events that nobody holds. Workers go on meanwhile.

    Never a run under way, nor one whose parent or child is; nor, within flows_dedupe, what a repeat of an event's id
    would start anew.
    """
    runtime = runtime_of(ctx)
    old = _old(runtime, before, older_than, flow, dry_run=dry_run)
    if dry_run:
        runs, _ = _forget(runtime, old)
        return click.echo(f"would prune {runs:,} runs")
    with written_down(runtime, "prune", flow or "all flows", before=before, older_than=older_than):
        runs, events = _forget(runtime, old)
    return click.echo(f"pruned {runs:,} runs and {events:,} events")


def _forget(runtime: Runtime, old: Old) -> tuple[int, int]:
    runs = events = 0
    for piece in forget(runtime.store, old):
        runs, events = runs + piece.runs, events + piece.events
        if piece.runs or piece.events:
            click.echo(f"{runs:,} runs, {events:,} events so far", err=True)
    return runs, events


def _old(runtime: Runtime, before: str | None, older_than: str | None, flow: str | None, *, dry_run: bool) -> Old:
    if before is not None and older_than is not None:
        raise WrongUsage("Give --before or --older-than, not both.")
    with runtime.store.connection() as connection:
        now = connection.now()
    if before is not None:
        at = parse_moment(before, "--before")
        if at > now:
            raise WrongUsage(f"--before {before} is to come, by {format_duration(at - now)}.")
    elif older_than is not None:
        at = now - parse_duration(older_than, "--older-than")
    elif runtime.settings.retention:
        at = now - runtime.settings.retention
    else:
        raise WrongUsage("Say what is old: --older-than 30d, --before MOMENT, or the setting flows_retention.")
    return Old(at, now - runtime.settings.dedupe, flow, dry_run)
