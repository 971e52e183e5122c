"""Sealing: what users wrote enters the store sealed and leaves it opened, at the one place where statements run.

PAYLOADS names the columns that hold it, and the parameters that fill them: a statement has nothing to do for it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from celeryflows.codec import is_sealed

PAYLOADS = frozenset(
    ("data", "value", "output", "error", "input", "given", "selection", "message", "problem", "if_exp")
)
# As JSON it is a value and an error: what a report shows of a payload whose key is not here.
LOCKED = '{"name":"Encrypted","message":"this app lacks the key; put it into flows_encryption_keys"}'
_AGAIN = re.compile(r"_\d+$")


class Sealer(Protocol):
    """Encrypts payloads for a store. Without one, payloads are stored as they are."""

    @property
    def writes_under(self) -> str | None:
        """The fingerprint of the key that seals, None while nothing is sealed yet."""
        ...

    @property
    def fingerprints(self) -> frozenset[str]:
        """Those of all keys that open."""
        ...

    def seal(self, text: str) -> str:
        """The text under the first key."""
        ...

    def open(self, text: str) -> str:
        """The text again; a sealed one whose key is not here, and a plain one, as they are."""
        ...

    def mark(self, wait_hash: int) -> int:
        """The hash under which a wait is stored: equal for equal values, and nothing to guess them by."""
        ...

    def marks(self, hashes: Iterable[int]) -> list[int]:
        """All the hashes under which waits for these may stand, those from before the keys among them."""
        ...


def sealed_params(sealer: Sealer, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with their payloads sealed."""
    return {
        name: sealer.seal(value) if name in PAYLOADS and isinstance(value, str) else value
        for name, value in params.items()
    }


def payload_columns(names: Sequence[str]) -> tuple[int, ...]:
    """Where in a row payloads stand; of two columns of one name the second is called `name_1`."""
    return tuple(i for i, name in enumerate(names) if _AGAIN.sub("", name) in PAYLOADS)


def opened_rows(sealer: Sealer, rows: list[tuple[Any, ...]], columns: Sequence[int]) -> list[tuple[Any, ...]]:
    """The rows with their payloads opened, as far as the keys are here."""
    return [_opened(sealer, row, columns) for row in rows] if columns else rows


def shown_rows(sealer: Sealer | None, rows: list[tuple[Any, ...]], columns: Sequence[int]) -> list[tuple[Any, ...]]:
    """The rows as a report shows them: what cannot be opened says so."""
    if sealer is not None:
        rows = opened_rows(sealer, rows, columns)
    if not any(is_sealed(row[i]) for row in rows for i in columns):
        return rows
    return [tuple(LOCKED if i in columns and is_sealed(cell) else cell for i, cell in enumerate(row)) for row in rows]


def _opened(sealer: Sealer, row: tuple[Any, ...], columns: Sequence[int]) -> tuple[Any, ...]:
    if not any(is_sealed(row[i]) for i in columns):
        return row
    cells = list(row)
    for i in columns:
        if is_sealed(cells[i]):
            cells[i] = sealer.open(cells[i])
    return tuple(cells)
