"""`flows audit`."""

import click

from celeryflows.cli.opening import runtime_of
from celeryflows.cli.output import console_for, json_option, local, plain, print_json, table
from celeryflows.cli.run_commands import cursor_option, limit_option
from celeryflows.console.audit import audit


@click.command("audit")
@click.option("--who", help="Only what this one did.")
@limit_option
@cursor_option
@json_option
@click.pass_context
def list_audit(ctx: click.Context, *, who: str | None, limit: int, cursor: str | None, as_json: bool) -> None:
    """List who did what on the pages, over the REST API and at a terminal, the newest first."""
    page = audit(runtime_of(ctx), who=who, limit=limit, cursor=cursor)
    if as_json:
        return print_json({"audit": page.items, "next": page.next})
    if not page.items:
        return click.echo("nothing was done yet")
    rows = table("at", "who", "by", "what", "on", "outcome")
    for entry in page.items:
        acted = plain(entry.who, 60), entry.via, plain(entry.action, 40)
        rows.add_row(local(entry.at), *acted, plain(entry.subject, 100), plain(entry.outcome, 60))
    console_for(ctx).print(rows)
    if page.next is not None:
        click.echo(f"more: --cursor {page.next}")
    return None
