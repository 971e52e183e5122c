"""Logins: the users of the settings, kept in a signed cookie by Flask-Login."""

from hashlib import sha256

from flask import Flask, request
from flask.sansio.app import App
from flask.sessions import SecureCookieSessionInterface
from flask_login import LoginManager
from werkzeug.security import check_password_hash, generate_password_hash

from celeryflows import ConfigurationError
from celeryflows.console.doors import DoorSettings, User

# What a name that is not known is tried against: it takes as long as any other.
NOBODY = generate_password_hash("nobody has this password")


class Member:
    """A user who is logged in, as Flask-Login asks for one. The id changes with the password: a new one ends the old
    logins."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, user: User) -> None:
        self.name = user.name
        self.role = user.role
        self.id = f"{user.name}:{sha256(user.password.encode()).hexdigest()[:16]}"

    def get_id(self) -> str:
        """What the cookie holds."""
        return self.id


class Sessions(SecureCookieSessionInterface):
    """Cookies go back over TLS alone where they were given by TLS, to us or to the proxy before us."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """True for a request by TLS."""
        return request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"


def member_of(settings: DoorSettings, name: str, password: str) -> Member | None:
    """Who logs in so, None for a wrong name or password."""
    user = settings.users.get(name)
    fits = check_password_hash(user.password if user is not None else NOBODY, password)
    return Member(user) if user is not None and fits else None


def install_logins(app: App, settings: DoorSettings) -> None:
    """Let the app know who is logged in. Raises ConfigurationError where another part of it does that already."""
    if not settings.users:
        return
    if hasattr(app, "login_manager"):
        raise ConfigurationError(
            "This Flask app has a login of its own, beside which flows_users cannot stand. Take flows_users away and "
            'let the app say who may come in: request.environ["celeryflows.roles"] = ["look", "act"]'
        )
    manager = LoginManager(app)
    manager.session_protection = "strong"
    members = {member.id: member for member in map(Member, settings.users.values())}
    manager.user_loader(members.get)
