"""What stands before every page: who may look, and the token that every POST has to bring."""

from flask import abort, current_app, g, request
from flask_wtf.csrf import generate_csrf, validate_csrf
from wtforms import ValidationError

from flask_dashboard.auth import Role, check

FIELD, HEADER = "csrf_token", "X-CSRF-Token"
WITHOUT_KEY = (
    "The dashboard's forms need a secret key: set app.secret_key, the same in every process that serves the app."
)


def guard() -> None:
    """Refuse who may not look, and a POST without the token of the session."""
    if (request.endpoint or "").endswith(".static"):
        return
    if not current_app.secret_key:
        raise RuntimeError(WITHOUT_KEY)
    g.door.bounds.pass_one("pages", request)
    if not at_login():
        check(Role.LOOK)
    if request.method == "POST":
        _check_token()


def at_login() -> bool:
    """True at the page that asks who it is."""
    return (request.endpoint or "").endswith((".login", ".login_with"))


def token() -> str:
    """A token for the forms of a page."""
    return str(generate_csrf())


def _check_token() -> None:
    try:
        validate_csrf(request.headers.get(HEADER) or request.form.get(FIELD))
    except ValidationError:
        abort(400, "This form is too old, or was not sent by this page. Load the page again and repeat.")
