"""Who may do what. Roles: `look` sees, `act` changes.

Who it is tells, in this order: a server around the dashboard, a trusted proxy's header, a login. When nobody has said
who may come in, whoever is on this host itself, by its loopback, has both roles, and all others none."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from ipaddress import ip_address
from typing import ParamSpec, TypeVar

from flask import abort, g, request
from flask_login import current_user

from celeryflows.console.doors import DoorSettings, ProxyLogin
from flask_dashboard.here import from_here, is_near

P = ParamSpec("P")
R = TypeVar("R")

# In the environ: the roles as words, such as ["look"]; a name that begins with HTTP_ alone comes from a client.
GRANTED, NAMED = "celeryflows.roles", "celeryflows.user"
NOBODY_YET = (
    "This dashboard is open to its own host alone. Who else may come in, flows_users or flows_proxy_login has to say."
)

UNTOLD = (
    "You are on this host, but the server does not tell that it listens at loopback alone (its SERVER_NAME is {!r}): "
    "when it does, and no proxy stands before it, set flows_bound_to = '127.0.0.1', its address."
)


class Role(StrEnum):
    """What somebody may do on the pages."""

    LOOK = "look"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose request it is. `can_leave`: by a login of ours, which can be ended."""

    name: str
    roles: frozenset[Role]
    can_leave: bool = False


STRANGER = Visitor("", frozenset())


def visitor() -> Visitor:
    """Whoever made the request at hand."""
    found: Visitor | None = g.get("visitor")
    if found is None:
        found = g.visitor = _visitor(g.door.settings)
    return found


def roles() -> frozenset[Role]:
    """What whoever made the request at hand may do."""
    return visitor().roles


def may(role: str) -> bool:
    """True when the request at hand comes with the role."""
    return role in roles()


def check(role: Role) -> None:
    """End the request when it comes without the role: 401 for a stranger who could log in, else 403."""
    if role in roles():
        return
    settings: DoorSettings = g.door.settings
    if visitor() is STRANGER and settings.users:
        abort(401)
    abort(403, None if settings.needs_login else _why_not(settings))


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


def up_to(role: str) -> frozenset[Role]:
    """The roles of somebody whose highest it is."""
    return frozenset(Role) if role == Role.ACT else frozenset({Role.LOOK})


def _why_not(settings: DoorSettings) -> str:
    """What would let in whoever is asking while nobody has said who may."""
    if settings.bound_to is None and is_near(request):
        return f"{NOBODY_YET} {UNTOLD.format(request.environ.get('SERVER_NAME', ''))}"
    return NOBODY_YET


def _visitor(settings: DoorSettings) -> Visitor:
    granted = request.environ.get(GRANTED)
    if granted is not None:
        return Visitor(str(request.environ.get(NAMED, "the app")), frozenset(Role(word) for word in granted))
    if settings.proxy_login is not None and (found := _by_proxy(settings.proxy_login)) is not None:
        return found
    if settings.users and current_user.is_authenticated:
        return Visitor(current_user.name, up_to(current_user.role), can_leave=True)
    if not settings.needs_login and from_here(request, settings.bound_to):
        return Visitor("this host", frozenset(Role))
    return STRANGER


def _by_proxy(login: ProxyLogin) -> Visitor | None:
    """Its word counts when it comes from its address; a word that is no role is none."""
    name = request.headers.get(login.user, "").strip()
    if not name or not _is_within(request.remote_addr or "", login):
        return None
    role = login.default if login.role is None else request.headers.get(login.role, login.default).strip().lower()
    return Visitor(name, up_to(role) if role in tuple(Role) else frozenset())


def _is_within(address: str, login: ProxyLogin) -> bool:
    try:
        at = ip_address(address)
    except ValueError:
        return False
    return any(at in network for network in login.networks)
