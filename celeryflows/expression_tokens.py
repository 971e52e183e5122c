"""An expression's text cut into tokens, and the bound on its nesting.

Looked at before CEL's own parser, which is recursive: what overflows its stack kills the process, not the request."""

import re
from dataclasses import dataclass
from typing import NamedTuple

MAX_NESTING = 50
# Operators in a row make a tree as deep as the row is long: 1,000 of them overflow a thread's stack of 512 KiB.
MAX_CHAIN = 500

# CEL's escapes to the letter: were a text read as closed here and as broken there, its brackets would go uncounted.
_ESCAPE = r"\\(?:[abfnrtv\"'`?\\]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})"
_TOKEN = re.compile(
    rf"""
    (?P<gap>[ \t\r\n\f]+|//[^\n]*)
  | (?P<string>[bB]?[rR](?:\"{{3}}.*?\"{{3}}|'{{3}}.*?'{{3}}|"[^"\n\r]*"|'[^'\n\r]*')
      |[bB]?(?:\"{{3}}(?:{_ESCAPE}|[^\\])*?\"{{3}}|'{{3}}(?:{_ESCAPE}|[^\\])*?'{{3}}
        |"(?:{_ESCAPE}|[^"\\\n\r])*"|'(?:{_ESCAPE}|[^'\\\n\r])*'))
  | (?P<number>0x[0-9a-fA-F]+[uU]?|\d*\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+[uU]?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>&&|\|\||[=!<>]=|.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_SEPARATORS = frozenset({"&&", "||", ",", "?", ":"})
_CHAINING = frozenset({"+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", ".", "[", "{", "("})


class Problem(Exception):
    """What is wrong with a text, where (an offset into it, if known), and what to do."""

    def __init__(self, message: str, remedy: str, at: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.at = at


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int

    @property
    def ends_operand(self) -> bool:
        return self.kind in {"string", "number"} or self.text in {")", "]", "}"} or self.is_name

    @property
    def is_name(self) -> bool:
        return self.kind == "name" and self.text not in {"in"}


def tokenize(source: str) -> list[Token]:
    """Cut a text into tokens, without blanks and comments; what CEL has no token for comes as single marks."""
    found = _TOKEN.finditer(source)
    tokens = [Token(m.lastgroup or "", m.group(), m.start(), m.end()) for m in found if m.lastgroup != "gap"]
    for token in tokens:
        if token.text in {"'", '"'}:
            raise Problem("a text is not closed, or holds an unknown escape", "Close the quotes.", token.start)
    return tokens


@dataclass(slots=True)
class _Level:
    """One open bracket: ternaries nest to the right, operators in a row to the left, brackets inward."""

    ternaries: int = 0
    chain: int = 0
    longest: int = 0
    inner: int = 0

    def restart(self) -> None:
        self.longest, self.chain = max(self.longest, self.chain), 0

    @property
    def depth(self) -> int:
        return max(self.longest, self.chain) + self.inner + 1


def check_nesting(tokens: list[Token]) -> None:
    """Refuse a text whose tree would be too deep for a recursive parser: a stack overflow kills the process."""
    levels = [_Level()]
    unary = 0
    for index, token in enumerate(tokens):
        unary = unary + 1 if _is_unary(tokens, index) else 0
        _descend(levels, token)
        if unary + len(levels) - 1 + sum(level.ternaries for level in levels) > MAX_NESTING:
            raise Problem(
                f"nested deeper than {MAX_NESTING}", "Split it, or compute the value in the event.", token.start
            )
        if sum(level.depth for level in levels) > MAX_CHAIN:
            raise Problem(f"more than {MAX_CHAIN} operators in a row", "Use a list and `in`.", token.start)


def _is_unary(tokens: list[Token], index: int) -> bool:
    text = tokens[index].text
    return text == "!" or (text == "-" and (index == 0 or not tokens[index - 1].ends_operand))


def _descend(levels: list[_Level], token: Token) -> None:
    level = levels[-1]
    if token.kind in {"string", "number"}:
        return
    if token.text in _SEPARATORS:
        level.restart()
        level.ternaries = 0 if token.text == "," else level.ternaries + (token.text == "?")
    elif token.text in _CHAINING:
        level.chain += 1
    if token.text in {"(", "[", "{"}:
        levels.append(_Level())
    elif token.text in {")", "]", "}"} and len(levels) > 1:
        closed = levels.pop()
        levels[-1].inner = max(levels[-1].inner, closed.depth)
