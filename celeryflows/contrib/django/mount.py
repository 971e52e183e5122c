"""The dashboard inside a Django project, for its staff: a WSGI app served by a view.

`path("flows/", include("celeryflows.contrib.django.urls"))` puts it into the project's URLs."""

import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import NoReverseMatch, reverse
from django.views.decorators.csrf import csrf_exempt

from celeryflows.app import current_flows

try:
    from werkzeug.test import run_wsgi_app

    from flask_dashboard import create_app
    from flask_dashboard.auth import GRANTED
except ImportError as error:
    raise ImproperlyConfigured(
        f"The dashboard needs packages that are not installed ({error}): pip install 'celeryflows[dashboard]'"
    ) from error

# Who acts, for the dashboard's own record of it.
NAMED = "celeryflows.user"
CHANGES = "celeryflows.change_dashboard"


# The pages bring tokens of their own, which Django's middleware does not know.
@csrf_exempt
def dashboard(request: Any, path: str) -> HttpResponseBase:
    """A page of the dashboard: staff may look, who has the permission "change dashboard" may act as well."""
    user = getattr(request, "user", None)
    if user is None:
        raise ImproperlyConfigured("The dashboard asks who is there: put AuthenticationMiddleware into MIDDLEWARE.")
    if not (user.is_active and user.is_staff):
        if user.is_authenticated or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        return redirect_to_login(request.get_full_path(), _login_url())
    roles = ["look", "act"] if user.has_perm(CHANGES) else ["look"]
    told = {GRANTED: roles, NAMED: user.get_username()}
    rows, status, headers = run_wsgi_app(_app(), {**_environ(request, path), **told})
    return _response(request, rows, status, headers)


@cache
def _app() -> Any:
    return create_app(current_flows._get_current_object())


def _login_url() -> str | None:
    """The admin's own page where there is one, else that of the settings."""
    try:
        return str(reverse("admin:login"))
    except NoReverseMatch:
        return None


def _environ(request: Any, path: str) -> dict[str, Any]:
    """What the request is to a WSGI app below this place, whether Django itself is served by WSGI or ASGI."""
    body: bytes = request.body
    return {
        **{name: value for name, value in request.META.items() if isinstance(value, str)},
        "SCRIPT_NAME": _as_wsgi(request.path.removesuffix(path).rstrip("/")),
        "PATH_INFO": _as_wsgi(f"/{path}"),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def _as_wsgi(text: str) -> str:
    return text.encode().decode("latin-1")


def _response(request: Any, rows: Iterable[bytes], status: str, headers: Any) -> HttpResponseBase:
    code, _, reason = status.partition(" ")
    options: dict[str, Any] = {"status": int(code), "reason": reason}
    if "Content-Length" in headers or request.method == "HEAD":
        response: Any = HttpResponse(b"".join(rows), **options)
        _close(rows)
    else:
        response = StreamingHttpResponse(_each(rows) if hasattr(request, "scope") else rows, **options)
    del response.headers["Content-Type"]
    for name, value in headers:
        if name.lower() == "set-cookie":
            response.cookies.load(value)
        else:
            response.headers[name] = value
    found: HttpResponseBase = response
    return found


async def _each(rows: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Under ASGI a stream is read beside the loop."""
    left = iter(rows)
    try:
        while (row := await sync_to_async(_next_of)(left)) is not None:
            yield row
    finally:
        await sync_to_async(_close)(rows)


def _next_of(rows: Iterator[bytes]) -> bytes | None:
    return next(rows, None)


def _close(rows: Iterable[bytes]) -> None:
    close = getattr(rows, "close", None)
    if close is not None:
        close()
