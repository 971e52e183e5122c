"""`output_type`: a value checked by pydantic when it is recorded, and given back as that type each time.

What is recorded stays JSON of ours; the first time gets what a repeat gets: the value read back from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from celeryflows.codec import dumps, loads
from celeryflows.errors import ConfigurationError, DeclarationError, InvalidOutput, NotStorable


@dataclass(frozen=True, slots=True)
class OutputType:
    """A type that pydantic can check: a model, a dataclass, `list[Model]` and the like."""

    kind: Any
    adapter: Any

    def write(self, value: object, *, what: str) -> tuple[str, Any]:
        """The stored text of a value that fits, and the value that `read` makes of it.

        Raises InvalidOutput, which names the fields, or NotStorable.
        """
        try:
            fitting = self.adapter.validate_python(value)
            plain = self.adapter.dump_python(fitting, by_alias=False, round_trip=True, warnings=False)
        except Exception as refused:  # a user's validator may raise anything
            raise self._misfit(what, refused) from None
        try:
            text = dumps(plain, what=what)
        except NotStorable:
            # Such as keys that are numbers: pydantic has a JSON form for them, and reads it back.
            text = self._as_json(fitting, what)
        return text, self.read(text, what=what)

    def read(self, text: str | None, *, what: str) -> Any:
        """The value of a stored text. Raises InvalidOutput when the type has changed so that it does not fit."""
        found = None if text is None else loads(text)
        try:
            # JSON has neither tuples nor sets: what was strict when it was written is read back leniently.
            return self.adapter.validate_python(found, strict=False, by_alias=False, by_name=True)
        except Exception as refused:
            raise self._misfit(what, refused) from None

    def _as_json(self, fitting: object, what: str) -> str:
        try:
            plain = self.adapter.dump_python(fitting, mode="json", by_alias=False, round_trip=True, warnings=False)
        except Exception as refused:
            raise NotStorable(f"{what} has no JSON form: {refused}") from None
        return dumps(plain, what=what)

    def _misfit(self, what: str, refused: Exception) -> InvalidOutput:
        name = getattr(self.kind, "__name__", None) or str(self.kind)
        return InvalidOutput(f"{what} does not fit {name}: {_problems(refused)}")


def read_output_type(kind: Any, what: str) -> OutputType:
    """Read the option. Raises ConfigurationError without pydantic, DeclarationError for what it cannot check."""
    try:
        try:
            return _made(kind)
        except TypeError:  # a type that has no hash
            return _made.__wrapped__(kind)
    except ImportError:
        raise ConfigurationError(
            f"{what}: output_type= needs pydantic. Install it with: pip install 'celeryflows[pydantic]'"
        ) from None
    except (RuntimeError, TypeError) as refused:
        first = (str(refused).strip().splitlines() or [""])[0]
        raise DeclarationError(
            f"{what}: output_type={kind!r:.80} is nothing that pydantic can check ({first:.200}). Give a model, a "
            "dataclass, or a type of them such as list[Model]."
        ) from None


@lru_cache(maxsize=512)
def _made(kind: Any) -> OutputType:
    # Building an adapter takes longer than most steps: once for each type.
    from pydantic import TypeAdapter

    if isinstance(kind, str):
        raise TypeError("a text names no type here")
    return OutputType(kind, TypeAdapter(kind))


def _problems(refused: Exception) -> str:
    errors = getattr(refused, "errors", None)
    if not callable(errors):
        return f"{type(refused).__name__}: {refused}"
    return "; ".join(f"{_path(one['loc'])}: {one['msg']}" for one in errors(include_url=False, include_input=False))


def _path(place: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
