"""Keys: the value by which a limit tells runs apart, evaluated once, and the name under which the store counts it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celeryflows.codec import canonical
from celeryflows.expressions import compile_expression, value_or_none
from celeryflows.ids import derived_id
from celeryflows.model.triggers import KEY_NAMES

SHOWN = 80


@dataclass(frozen=True, slots=True)
class Key:
    """A limit with one value of its key: `value` is canonical JSON, None for a limit without key."""

    kind: str
    flow: str
    expression: str | None
    value: str | None

    @property
    def name(self) -> str:
        """What the store counts under."""
        return derived_id(self.kind, self.flow, self.expression or "", self.value or "")

    @property
    def is_null(self) -> bool:
        """True when there is a key and it has no value for this event."""
        return self.value == "null"

    def shown(self, word: str = " for") -> str:
        """For reasons: ` for "u1"`, nothing without a key."""
        if self.value is None:
            return ""
        cut = self.value if len(self.value) <= SHOWN else f"{self.value[:SHOWN]}..."
        return f"{word} {cut}"

    def hidden(self) -> "Key":
        """The same for a reason that must not show the value."""
        return replace(self, value=None)


def key_of(kind: str, flow: str, expression: str | None, scope: Mapping[str, Any]) -> Key:
    """The key with its value for `scope`, what expressions see; what cannot be evaluated is null."""
    if expression is None:
        return Key(kind, flow, None, None)
    compiled = compile_expression(expression, names=KEY_NAMES, what=f"{kind} of flow {flow!r}")
    found, _ = value_or_none(compiled, scope)
    return Key(kind, flow, expression, canonical(found))
