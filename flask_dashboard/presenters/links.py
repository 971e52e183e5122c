"""Addresses: of this package's own files by what is in them, of the page at hand with other questions."""

from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import request, url_for

STATIC = Path(__file__).parents[1] / "static"


def asset(name: str) -> str:
    """The address of a file of ours; it changes when the file does."""
    return url_for(".static", filename=name, v=_digest(name))


def here(**changes: Any) -> str:
    """The page at hand with other questions; None leaves one out."""
    return with_questions(url_for(str(request.endpoint), **(request.view_args or {})), asked() | changes)


def asked(*but: str) -> dict[str, Any]:
    """What the page at hand is asked, but for these."""
    left_out = ("part", *but)
    return {name: value for name, value in request.args.to_dict().items() if value and name not in left_out}


def with_questions(path: str, questions: Mapping[str, Any]) -> str:
    """An address with questions; those that are None are left out. Their names come from the reader: no `url_for`."""
    text = urlencode({name: value for name, value in questions.items() if value is not None})
    return f"{path}?{text}" if text else path


@cache
def _digest(name: str) -> str:
    return blake2b((STATIC / name).read_bytes(), digest_size=6).hexdigest()
