"""`flows db upgrade` and `flows db version`."""

import click

from celeryflows.cli.opening import bare_store
from celeryflows.cli.output import json_option, print_json
from celeryflows.console.doctor_store import is_missing_file
from celeryflows.store.upgrade import upgrade
from celeryflows.store.versions import newest_version, schema_version


@click.group("db")
def store_group() -> None:
    """The store's schema."""


@store_group.command("upgrade")
@click.pass_context
def upgrade_store(ctx: click.Context) -> None:
    """Bring the store's schema to the version that this celeryflows wants; safe to repeat, and from several hosts."""
    store = bare_store(ctx)
    try:
        click.echo(f"{store.shown_url()} has schema {upgrade(store)}")
    finally:
        store.dispose()


@store_group.command("version")
@json_option
@click.pass_context
def store_version(ctx: click.Context, *, as_json: bool) -> None:
    """Show the store's schema version and the one that this celeryflows wants."""
    store = bare_store(ctx)
    try:
        have, want = None if is_missing_file(store) else schema_version(store), newest_version()
    finally:
        store.dispose()
    if as_json:
        return print_json({"store": store.shown_url(), "have": have, "want": want})
    return click.echo(f"{store.shown_url()} has {have or 'no schema yet'}; this celeryflows wants {want}")
