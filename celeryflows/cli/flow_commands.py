"""`flows list`, `flows cron`, `flows pause` and `flows resume`."""

import click

from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import runtime_of
from celeryflows.cli.output import console_for, json_option, local, plain, print_json, table
from celeryflows.console import actions
from celeryflows.console import flows as desk
from celeryflows.console.flows import CronSummary, FlowSummary


@click.command("list")
@json_option
@click.pass_context
def list_flows(ctx: click.Context, *, as_json: bool) -> None:
    """List the flows with what starts them and when their crons fire next."""
    found = desk.flows(runtime_of(ctx))
    if as_json:
        return print_json({"flows": found})
    if not found:
        return click.echo("no flows")
    rows = table("flow", "starts at", "next", "label", "")
    for flow in found:
        starts = ", ".join([*flow.events, *map(_cron, flow.crons)]) or "calls only: .delay()"
        if flow.failure_of is not None:
            starts = f"a failure of {flow.failure_of}"
        dues = [cron.next_at for cron in flow.crons if cron.next_at is not None]
        rows.add_row(
            plain(flow.name, 60), plain(starts, 80), local(min(dues, default=None)), plain(flow.label, 60), _note(flow)
        )
    return console_for(ctx).print(rows)


@click.command("pause")
@click.argument("flow")
@click.option("--cancel-running", is_flag=True, help="Cancel its runs that have not ended; else they go on.")
@json_option
@click.pass_context
def pause_flow(ctx: click.Context, flow: str, *, cancel_running: bool, as_json: bool) -> None:
    """Pause FLOW: what would start it makes skipped runs, until it is resumed."""
    runtime = runtime_of(ctx)
    with written_down(runtime, "pause_flow", flow, cancel_running=cancel_running):
        done = actions.pause(runtime, flow, cancel_running=cancel_running)
    if as_json:
        return print_json(done)
    cancelled = f", {done.cancelled} runs cancelled" if cancel_running else ""
    return click.echo(f"{'paused' if done.changed else 'was paused already:'} {flow}{cancelled}")


@click.command("resume")
@click.argument("flow")
@json_option
@click.pass_context
def resume_flow(ctx: click.Context, flow: str, *, as_json: bool) -> None:
    """Let FLOW start again; what was skipped meanwhile stays skipped."""
    runtime = runtime_of(ctx)
    with written_down(runtime, "resume_flow", flow):
        changed = actions.resume(runtime, flow)
    if as_json:
        return print_json({"flow": flow, "changed": changed})
    return click.echo(f"{'resumed' if changed else 'was not paused:'} {flow}")


@click.command("cron")
@json_option
@click.pass_context
def list_crons(ctx: click.Context, *, as_json: bool) -> None:
    """List the cron triggers, the next to fire first."""
    found = desk.crons(runtime_of(ctx))
    if as_json:
        return print_json({"crons": found})
    if not found:
        return click.echo("no cron triggers")
    rows = table("next", "flow", "cron", "zone", "jitter", "missed", "")
    for cron in found:
        note = "" if cron.registered else "starts with the first worker"
        rows.add_row(
            local(cron.next_at), plain(cron.flow, 60), cron.cron, cron.tz, cron.jitter or "", cron.missed, note
        )
    return console_for(ctx).print(rows)


def _cron(cron: CronSummary) -> str:
    return f"{cron.cron} ({cron.tz})"


def _note(flow: FlowSummary) -> str:
    if flow.paused_at is not None:
        return f"paused since {local(flow.paused_at)}"
    if not flow.registered:
        return "not in the store yet: no worker has started with it"
    return "" if flow.declared else "not declared by this app"
