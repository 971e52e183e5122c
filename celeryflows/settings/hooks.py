"""Webhooks of other services as `flows_hooks` declares them: how each signs, and what becomes of a call."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celeryflows.durations import MINUTE
from celeryflows.errors import ConfigurationError, ExpressionError
from celeryflows.expressions import Expression, compile_expression
from celeryflows.settings.reading import duration_of, one_of, table_of, text_of, texts_of

SCOPE = frozenset({"body", "headers", "query"})
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# What a call becomes where nothing else is said, and by what the source names its delivery.
TRANSFORMS = {
    "stripe": "{'name': 'stripe/' + body.type, 'data': body, 'id': body.id}",
    "github": "{'name': 'github/' + headers['x-github-event'], 'data': body, 'id': headers['x-github-delivery']}",
    "slack": "{'name': 'slack/' + body.event.type, 'data': body, 'id': body.event_id}",
}
SCHEMES = (*TRANSFORMS, "hmac")
_ENTRIES = (
    *("signature", "secret", "transform", "tolerance", "header", "algorithm", "encoding", "prefix"),
    "timestamp_header",
)
_OF_HMAC = ("header", "algorithm", "encoding", "prefix", "timestamp_header")


@dataclass(frozen=True, slots=True)
class Hook:
    """One source. `secrets`: any of them may have signed, so that one can be changed. `tolerance` in microseconds:
    how old a signed moment may be. The rest is of `hmac`: the header, how the digest is written, what stands before
    it, and the header of the moment, which is signed with the body as `<moment>.<body>`."""

    source: str
    scheme: str
    secrets: tuple[str, ...] = field(repr=False)
    transform: Expression = field(repr=False)
    tolerance: int = 5 * MINUTE
    header: str = "X-Signature"
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    timestamp_header: str | None = None


def read_hooks(value: Any) -> Mapping[str, Hook]:
    """`flows_hooks`. Raises ConfigurationError, which names the entry and never a secret."""
    return {source: _hook(source, entry) for source, entry in table_of(value, "flows_hooks").items()}


def _hook(source: str, entry: Any) -> Hook:
    where = f"flows_hooks[{source!r}]"
    if not _SOURCE.fullmatch(source):
        raise ConfigurationError(f"{where}: the name stands in the address; letters, digits, dots, dashes, at most 64")
    table = table_of(entry, where, _ENTRIES)
    scheme = one_of(table.get("signature"), f"{where}['signature']", SCHEMES)
    remedy = "Is its environment variable set?"
    secrets = texts_of(table.get("secret", ()), f"{where}['secret']", remedy=remedy)
    if not secrets:
        raise ConfigurationError(f"{where}['secret'] is missing: what is not signed is not taken. {remedy}")
    options = {name: table[name] for name in _OF_HMAC if name in table}
    if options and scheme != "hmac":
        raise ConfigurationError(f"{where}[{next(iter(options))!r}] is of signature 'hmac' alone")
    if "tolerance" in table:
        options["tolerance"] = duration_of(table["tolerance"], f"{where}['tolerance']")
    return Hook(source, scheme, secrets, _transform(where, scheme, table), **_checked(where, options))


def _checked(where: str, options: dict[str, Any]) -> dict[str, Any]:
    if "algorithm" in options:
        one_of(options["algorithm"], f"{where}['algorithm']", ("sha256", "sha384", "sha512", "sha1"))
    if "encoding" in options:
        one_of(options["encoding"], f"{where}['encoding']", ("hex", "base64"))
    for name in ("header", "timestamp_header"):
        if name in options:
            text_of(options[name], f"{where}[{name!r}]")
    if not isinstance(options.get("prefix", ""), str):
        raise ConfigurationError(f"{where}['prefix'] must be a text")
    return options


def _transform(where: str, scheme: str, table: Mapping[str, Any]) -> Expression:
    text = table.get("transform", TRANSFORMS.get(scheme))
    if text is None:
        raise ConfigurationError(
            f"{where}['transform'] is missing: an expression over body, headers and query that gives an event, such as "
            "\"{'name': 'shop/' + body.kind, 'data': body, 'id': body.id}\""
        )
    try:
        return compile_expression(text_of(text, f"{where}['transform']"), names=SCOPE, what=f"{where}['transform']")
    except ExpressionError as error:
        raise ConfigurationError(str(error)) from None
