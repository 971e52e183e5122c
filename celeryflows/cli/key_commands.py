"""`flows keys` and `flows hash-password`: who may come in by HTTP."""

from typing import Any

import click

from celeryflows.cli.acting import who
from celeryflows.cli.opening import WrongUsage, runtime_of
from celeryflows.cli.output import console_for, json_option, local, plain, print_json, table
from celeryflows.console import keys as desk
from celeryflows.console.keys import KINDS, NewKey
from celeryflows.errors import InvalidDuration
from celeryflows.settings.doors import ROLES

SCRYPT = "The dashboard needs Flask and more: pip install 'celeryflows[dashboard]'"


@click.group("keys")
def keys_group() -> None:
    """Keys of the Event API and the REST API: stored as hashes, shown once."""


@keys_group.command("list")
@json_option
@click.pass_context
def list_keys(ctx: click.Context, *, as_json: bool) -> None:
    """List the keys of the store; those of flows_event_keys and flows_api_keys stand beside them."""
    found = desk.keys(runtime_of(ctx))
    if as_json:
        return print_json({"keys": found})
    if not found:
        return click.echo("no keys")
    rows = table("id", "kind", "name", "role", "created", "ends", "")
    for key in found:
        standing = "" if key.good else "over"
        name = plain(key.name, 60)
        rows.add_row(key.id, key.kind, name, key.role or "", local(key.created_at), local(key.ends_at), standing)
    return console_for(ctx).print(rows)


@keys_group.command("create")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="event", show_default=True, help="What it opens.")
@click.option("--role", type=click.Choice(ROLES), help="What an api key may do.  [default: look]")
@json_option
@click.pass_context
def create_key(ctx: click.Context, *, name: str, kind: str, role: str | None, as_json: bool) -> None:
    """Make a key under a NAME that tells whose it is, and print it: it is shown this once."""
    if role is not None and kind != "api":
        raise WrongUsage("--role is of api keys; an event key sends, and no more")
    made = desk.create_key(runtime_of(ctx), name, kind=kind, role=role, who=who())
    return _tell(made, as_json=as_json)


@keys_group.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option("--overlap", default="1 day", show_default=True, help="How long the old one still opens.")
@json_option
@click.pass_context
def rotate_key(ctx: click.Context, *, key_id: str, overlap: str, as_json: bool) -> None:
    """Make a key like the one with this ID, which ends after the overlap."""
    try:
        made = desk.rotate_key(runtime_of(ctx), key_id, overlap=overlap, who=who())
    except InvalidDuration as error:
        raise WrongUsage(str(error)) from error
    return _tell(made, as_json=as_json)


@keys_group.command("revoke")
@click.argument("key_id", metavar="ID")
@json_option
@click.pass_context
def revoke_key(ctx: click.Context, *, key_id: str, as_json: bool) -> None:
    """End the key with this ID; every process knows within two seconds."""
    changed = desk.revoke_key(runtime_of(ctx), key_id, who=who())
    if as_json:
        return print_json({"id": key_id, "changed": changed})
    return click.echo(f"{'revoked' if changed else 'was over already:'} {key_id}")


@click.command("hash-password")
def hash_password() -> None:
    """Ask for a password and print its hash, for flows_users."""
    try:
        from werkzeug.security import generate_password_hash
    except ImportError as error:
        raise WrongUsage(SCRYPT) from error
    password: Any = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    click.echo(generate_password_hash(str(password)))


def _tell(made: NewKey, *, as_json: bool) -> None:
    if as_json:
        return print_json({"id": made.id, "key": made.secret})
    click.echo(made.secret)
    return click.echo(f"key {made.id}: it is not shown again", err=True)
