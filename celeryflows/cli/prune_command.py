"""`flows prune`: forget old runs and events now, a bounded piece at a time."""

import click

from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import WrongUsage, runtime_of
from celeryflows.durations import format_duration, parse_duration, parse_moment
from celeryflows.engine.runtime import Runtime
from celeryflows.scheduler.retention import Forgotten, Old, forget


@click.command("prune")
@click.option("--before", help="What ended before this moment: ISO text with a zone.")
@click.option("--older-than", help='What ended so long ago, such as "30d". Default: flows_retention.')
@click.option("--flow", help="Runs of this flow alone, with the events that only they hold.")
@click.option("--dry-run", is_flag=True, help="Count the runs that would go, and change nothing.")
@click.pass_context
def prune(ctx: click.Context, before: str | None, older_than: str | None, flow: str | None, *, dry_run: bool) -> None:
    """Delete ended runs with their steps and waits, then the events that nobody holds. Workers go on meanwhile. Without
    --flow also what the audit has of longer ago than flows_audit_retention, whatever else is old.

    Never a run under way, nor one whose parent or child is; nor, within flows_dedupe, what a repeat of an event's id
    would start anew.
    """
    runtime = runtime_of(ctx)
    old = _old(runtime, before, older_than, flow, dry_run=dry_run)
    if dry_run:
        return click.echo(f"would prune {_forget(runtime, old).runs:,} runs")
    with written_down(runtime, "prune", flow or "all flows", before=before, older_than=older_than):
        gone = _forget(runtime, old)
    audit = f", and {gone.entries:,} entries of the audit" if gone.entries else ""
    return click.echo(f"pruned {gone.runs:,} runs and {gone.events:,} events{audit}")


def _forget(runtime: Runtime, old: Old) -> Forgotten:
    gone = Forgotten()
    for piece in forget(runtime.store, old):
        gone = Forgotten(gone.runs + piece.runs, gone.events + piece.events, gone.entries + piece.entries)
        if piece.runs or piece.events:
            click.echo(f"{gone.runs:,} runs, {gone.events:,} events so far", err=True)
    return gone


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
    settings = runtime.settings
    audit_before = now - settings.audit_retention if flow is None and not dry_run else 0
    return Old(at, now - settings.dedupe, flow, dry_run, audit_before)
