"""Who may do what. Roles: `look` sees, `act` changes.

A server around the dashboard that knows its users says which in the environ, where no client can write; without one,
who comes from this host itself, by its loopback, has both."""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from ipaddress import ip_address
from typing import ParamSpec, TypeVar

from flask import abort, request

P = ParamSpec("P")
R = TypeVar("R")

# In the environ: the roles as words, such as ["look"]; a name that begins with HTTP_ alone comes from a client.
GRANTED = "celeryflows.roles"
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


class Role(StrEnum):
    """What somebody may do on the pages."""

    LOOK = "look"
    ACT = "act"


def roles() -> frozenset[Role]:
    """What whoever made the request at hand may do."""
    granted = request.environ.get(GRANTED)
    if granted is not None:
        return frozenset(Role(word) for word in granted)
    return frozenset(Role) if _from_here() else frozenset()


def may(role: str) -> bool:
    """True when the request at hand comes with the role."""
    return role in roles()


def check(role: Role) -> None:
    """End the request with 403 when it comes without the role."""
    if role not in roles():
        abort(403)


def needs(role: Role) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A view that only those with the role reach."""

    def wrap(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            check(role)
            return view(*args, **kwargs)

        checked.needs = role  # type: ignore[attr-defined]
        return checked

    return wrap


acting = needs(Role.ACT)


def _from_here() -> bool:
    """By loopback, under a name of this host, and through no proxy: a name that somebody else chose may lead here."""
    named = request.host.rpartition(":")[0] if ":" in request.host.rpartition("]")[2] else request.host
    return (
        _is_loopback(request.remote_addr or "")
        and (named == "localhost" or _is_loopback(named.strip("[]")))
        and not any(header in request.headers for header in FORWARDED)
    )


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False
