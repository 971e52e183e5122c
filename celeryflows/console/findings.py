"""A finding of the doctor: how bad it is, what was seen, what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report; `remedy` is empty when all is well."""

    subject: str
    level: Level
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, text)


def warn(subject: str, text: str, remedy: str) -> Finding:
    """It works, and not as it should."""
    return Finding(subject, Level.WARN, text, remedy)


def bad(subject: str, text: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(subject, Level.BAD, text, remedy)
