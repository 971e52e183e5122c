"""An event as code that sends it: Python, and curl to the Event API."""

import json
import shlex
from pprint import pformat
from typing import Any


def python_snippet(name: str, data: str, key: str = "") -> str:
    """For a process of the app."""
    more = f", id={key!r}" if key else ""
    return f"flows.send({name!r}, {_literal(data)}{more})"


def curl_snippet(name: str, data: str, key: str, root: str) -> str:
    """For whoever has an event key."""
    event = {"name": name, "data": _read(data), **({"id": key} if key else {})}
    body = json.dumps(event, ensure_ascii=False)
    url, header = shlex.quote(f"{root}e/<event key>"), "'Content-Type: application/json'"
    return " \\\n  ".join((f"curl {url}", f"-H {header}", f"-d {shlex.quote(body)}"))


def _literal(data: str) -> str:
    found = _read(data)
    return pformat(found, width=80, sort_dicts=False) if found is not None else "{...}"


def _read(data: str) -> Any:
    try:
        return json.loads(data or "{}")
    except ValueError:
        return None
