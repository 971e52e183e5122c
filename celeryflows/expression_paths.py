"""The fields that an expression names, and its unknown names.

A path (`event.data.a.b`) becomes one generated variable, null when it is missing; what is not named is not passed."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import count
from typing import Any, Final

from celeryflows.expression_tokens import Problem, Token

Path = tuple[str | int, ...]


class _Missing:
    """Stands for a field that is not there, as null does not."""


MISSING: Final = _Missing()


MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map"})
GROWING_MACROS = frozenset({"filter", "map"})
TYPES = frozenset({"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"})
# Found by experiment: the library lists what a text calls, never what it knows.
FUNCTIONS = frozenset(
    {"bytes", "double", "duration", "dyn", "has", "int", "size", "string", "timestamp", "type", "uint"}
)
METHODS = frozenset(
    {"contains", "endsWith", "matches", "size", "startsWith"}
    | {"getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getMonth"}
    | {"getHours", "getMilliseconds", "getMinutes", "getSeconds"}
)
KEYWORDS = frozenset({"false", "in", "null", "true"})
PYTHONISMS = {"and": "&&", "or": "||", "not": "!", "is": "==", "None": "null", "True": "true", "False": "false"}


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A text in which generated names stand for paths: their values, their presence, tails of loop variables."""

    text: str
    reads: dict[str, Path]
    presences: dict[str, Path]
    tails: tuple[Path, ...]
    getter: str
    checker: str
    nested_macro_at: int | None
    grows_lists: bool


@dataclass(slots=True)
class _Reader:
    """One pass over the tokens; `scopes` holds the loop variable of each open bracket, or None."""

    source: str
    tokens: list[Token]
    roots: Set[str]
    decode: Callable[[str], str | int]
    prefix: str
    scopes: list[str | None] = field(default_factory=list)
    edits: list[tuple[int, int, str]] = field(default_factory=list)
    reads: dict[Path, str] = field(default_factory=dict)
    presences: dict[Path, str] = field(default_factory=dict)
    tails: list[Path] = field(default_factory=list)
    nested_macro_at: int | None = None
    grows_lists: bool = False

    def text(self, index: int) -> str:
        token = self.tokens[index] if 0 <= index < len(self.tokens) else None
        return token.text if token and token.kind in {"name", "mark"} else ""

    def step(self, index: int) -> int:
        token = self.tokens[index]
        if token.kind == "name" and token.text not in KEYWORDS:
            return self._method(index) if self.text(index - 1) == "." else self._root(index)
        if token.kind == "mark":
            self._bracket(index, token)
        return index + 1

    def _bracket(self, index: int, token: Token) -> None:
        if token.text in {"(", "[", "{"}:
            self.scopes.append(None)
        elif token.text in {")", "]", "}"} and self.scopes:
            self.scopes.pop()
        elif token.text == "." and not (index and self.tokens[index - 1].ends_operand):
            raise Problem("a name begins with a dot", "Take the dot away.", token.start)

    def _method(self, index: int) -> int:
        token = self.tokens[index]
        if self.text(index + 1) != "(":
            return index + 1
        if token.text not in MACROS:
            _known(token, METHODS, "method")
            return index + 1
        if any(self.scopes) and self.nested_macro_at is None:
            self.nested_macro_at = token.start
        self.grows_lists |= token.text in GROWING_MACROS
        if not (self.text(index + 2).isidentifier() and self.text(index + 3) == ","):
            raise Problem(
                f"{token.text}() takes a variable and a condition", "Write list.exists(x, x > 1).", token.start
            )
        self.scopes.append(self.text(index + 2))
        return index + 4

    def _root(self, index: int) -> int:
        token = self.tokens[index]
        if self.text(index + 1) == "(":
            _known(token, FUNCTIONS, "function")
            return self._has(index) if token.text == "has" else index + 1
        if self.text(index + 1) == "{":
            raise Problem(f"unknown type {token.text!r}", "Only lists and maps can be built.", token.start)
        path, after = self._path(index)
        if token.text in self.scopes:
            if len(path) > 1:
                self._edit(index, after, f"{self.prefix}get({token.text}, {self._tail(path)})")
            return after
        if token.text in self.roots:
            self._edit(index, after, self.reads.setdefault(path, f"{self.prefix}p{len(self.reads)}"))
            return after
        if token.text not in TYPES:
            _known(token, self.roots, "name")
        return index + 1

    def _has(self, index: int) -> int:
        token = self.tokens[index + 2]
        if token.kind != "name":
            return index + 1
        path, after = self._path(index + 2)
        if len(path) < 2 or self.text(after) != ")" or self.tokens[after - 1].kind != "name":
            return index + 1
        if token.text in self.scopes:
            self._edit(index, after + 1, f"{self.prefix}has({token.text}, {self._tail(path)})")
        elif token.text in self.roots:
            name = self.presences.setdefault(path, f"{self.prefix}h{len(self.presences)}")
            self._edit(index, after + 1, name)
        else:
            return index + 1
        return after + 1

    def _path(self, index: int) -> tuple[Path, int]:
        path: list[str | int] = [self.tokens[index].text]
        index += 1
        while True:
            if self.text(index) == "." and self.text(index + 2) != "(":
                path.append(self.tokens[index + 1].text)
                index += 2
            elif self.text(index) == "[" and self.text(index + 2) == "]" and self._is_literal(index + 1):
                path.append(self.decode(self.tokens[index + 1].text))
                index += 3
            else:
                return tuple(path), index

    def _is_literal(self, index: int) -> bool:
        token = self.tokens[index]
        if token.kind == "string":
            return token.text[0] not in "bB"
        return token.kind == "number" and token.text.isdigit()

    def _tail(self, path: Path) -> int:
        self.tails.append(path[1:])
        return len(self.tails) - 1

    def _edit(self, first: int, after: int, text: str) -> None:
        self.edits.append((self.tokens[first].start, self.tokens[after - 1].end, text))

    def rewritten(self) -> str:
        pieces, at = [], 0
        for start, end, text in self.edits:
            pieces += [self.source[at:start], text]
            at = end
        return "".join([*pieces, self.source[at:]])


def _known(token: Token, known: Set[str], noun: str) -> None:
    if token.text in known:
        return
    nearest = PYTHONISMS.get(token.text) or next(iter(get_close_matches(token.text, known, 1)), None)
    hint = f"Did you mean {nearest}? " if nearest else ""
    raise Problem(f"unknown {noun} {token.text!r}", f"{hint}Known here: {', '.join(sorted(known))}.", token.start)


def rewrite(source: str, tokens: list[Token], roots: Set[str], decode: Callable[[str], str | int]) -> Rewrite:
    """Name the fields of a text that CEL's parser has accepted. Raises Problem for unknown names and functions."""
    prefix = next(f"_{number}" for number in count() if f"_{number}" not in source)
    reader = _Reader(source, tokens, roots, decode, prefix)
    index = 0
    while index < len(tokens):
        index = reader.step(index)
    return Rewrite(
        text=reader.rewritten(),
        reads={name: path for path, name in reader.reads.items()},
        presences={name: path for path, name in reader.presences.items()},
        tails=tuple(reader.tails),
        getter=f"{prefix}get",
        checker=f"{prefix}has",
        nested_macro_at=reader.nested_macro_at,
        grows_lists=reader.grows_lists,
    )


def find(value: Any, path: Path) -> Any:
    """Follow a path into JSON; MISSING where it ends early."""
    for key in path:
        if isinstance(key, str):
            value = value.get(key, MISSING) if isinstance(value, Mapping) else MISSING
        else:
            value = value[key] if isinstance(value, list | tuple) and key < len(value) else MISSING
        if value is MISSING:
            return MISSING
    return value


def loop_functions(tails: tuple[Path, ...]) -> tuple[Callable[[Any, int], Any], Callable[[Any, int], bool]]:
    """Make the two functions that a rewritten text calls for fields of loop variables."""

    def get(element: Any, tail: int) -> Any:
        found = find(element, tails[tail])
        return None if found is MISSING else found

    def has(element: Any, tail: int) -> bool:
        return find(element, tails[tail]) is not MISSING

    return get, has


def path_text(path: Path) -> str:
    """Write a path as an expression does: `event.data.items[0]['x-y']`."""
    root, *rest = path
    return str(root) + "".join(f".{key}" if str(key).isidentifier() else f"[{key!r}]" for key in rest)
