"""Addresses: of this package's own files by what is in them, of the page at hand with other questions."""

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import request, url_for

STATIC = Path(__file__).parents[1] / "static"


def asset(name: str) -> str:
    """The address of a file of ours; it changes when the file does."""
    return url_for(".static", filename=name, v=_digest(name))


def here(**changes: Any) -> str:
    """The page at hand with other questions; None leaves one out."""
    asked = {name: value for name, value in request.args.to_dict().items() if value and name != "part"}
    kept = {name: value for name, value in (asked | changes).items() if value is not None}
    return url_for(str(request.endpoint), **(request.view_args or {}), **kept)


@cache
def _digest(name: str) -> str:
    return blake2b((STATIC / name).read_bytes(), digest_size=6).hexdigest()
