"""`flows alerts`."""

import click

from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import Refused, binding_of, runtime_of
from celeryflows.cli.output import console_for, json_option, local, plain, print_json, table
from celeryflows.console.alerting import standings, try_places


@click.command("alerts")
@click.option("--test", "test", is_flag=True, help="Send a message to every place of every rule now.")
@json_option
@click.pass_context
def list_alerts(ctx: click.Context, *, test: bool, as_json: bool) -> None:
    """List the rules of flows_alerts, what they see now and when each was told last."""
    rules, runtime = binding_of(ctx).alert_rules, runtime_of(ctx)
    if test:
        return _test(ctx)
    shown = standings(runtime, rules)
    if as_json:
        return print_json({"alerts": shown})
    if not shown:
        return click.echo("no rules; flows_alerts declares them")
    rows = table("rule", "when", "to", "every", "told", "sees")
    for rule in shown:
        to, sees = plain(", ".join(rule.to), 40), plain("; ".join(rule.sees), 80)
        rows.add_row(plain(rule.name, 40), rule.when, to, rule.every, local(rule.told), sees)
    return console_for(ctx).print(rows)


def _test(ctx: click.Context) -> None:
    rules, runtime = binding_of(ctx).alert_rules, runtime_of(ctx)
    if not rules:
        raise Refused("There are no rules: flows_alerts declares them.")
    with written_down(runtime, "try_alerts", "flows_alerts"):
        refused = try_places(runtime, rules)
    if refused:
        raise Refused("; ".join(refused))
    click.echo("a message was sent to every place")
