"""`flows db upgrade`, `flows db version` and `flows rotate-keys`."""

import click

from celeryflows.celery_bridge.settings import read_settings
from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import app_of, bare_store, runtime_of
from celeryflows.cli.output import json_option, print_json
from celeryflows.console.doctor_store import is_missing_file
from celeryflows.store.rotation import rotate
from celeryflows.store.upgrade import upgrade
from celeryflows.store.versions import newest_version, schema_version


@click.group("db")
def store_group() -> None:
    """The store's schema."""


@store_group.command("upgrade")
@click.option(
    "--force", is_flag=True, help="Also while workers are alive that need what is taken away: they will fail."
)
@click.pass_context
def upgrade_store(ctx: click.Context, *, force: bool) -> None:
    """Bring the store's schema to the version that this celeryflows wants; safe to repeat, and from several hosts.

    It refuses to take away what a living worker of an older celeryflows needs.
    """
    store = bare_store(ctx)
    silence = 0 if force else read_settings(app_of(ctx)).dead_after
    try:
        click.echo(f"{store.shown_url()} has schema {upgrade(store, silence)}")
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


@click.command("rotate-keys")
@click.pass_context
def rotate_keys(ctx: click.Context) -> None:
    """Encrypt what is stored under the first of flows_encryption_keys, while workers go on.

    Every process must have that key by then. When this has ended the other keys may go. With "plain" as the first,
    payloads are stored as they are again.
    """
    runtime = runtime_of(ctx)
    with written_down(runtime, "rotate_keys", "flows_encryption_keys"):
        changed = rotate(
            runtime.store,
            lambda table, seen, changed: click.echo(f"{table}: {seen:,} rows, {changed:,} changed so far", err=True),
        )
    click.echo(f"{changed:,} payloads were brought under the first key; the others may go")
