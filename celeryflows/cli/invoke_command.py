"""`flows invoke`."""

import click

from celeryflows.cli.acting import written_down
from celeryflows.cli.event_commands import read_object
from celeryflows.cli.opening import runtime_of
from celeryflows.cli.output import json_option, print_json
from celeryflows.cli.rerun_commands import warn_offline
from celeryflows.console.invoking import invoke


@click.command("invoke")
@click.argument("flow")
@click.argument("data", metavar="[JSON]", default="{}")
@click.option("--key", help="Start it once: with the same key and data it is the same run.")
@json_option
@click.pass_context
def invoke_flow(ctx: click.Context, flow: str, data: str, key: str | None, *, as_json: bool) -> None:
    """Start FLOW with a JSON object as its data, as .delay() does; - reads it from stdin."""
    given, runtime = read_object(data), runtime_of(ctx)
    with written_down(runtime, "invoke_flow", flow, key=key):
        run_id = invoke(runtime, flow, given, key=key)
    if as_json:
        return print_json({"run_id": run_id})
    click.echo(f"run {run_id}")
    return warn_offline(runtime)
