"""Does a request come from this host itself? Then no login is asked for, unless somebody has said who may come in."""

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import Request

# What proxies tell, as WSGI names it.
PROXIED = ("HTTP_X_FORWARDED", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")


def from_here(request: Request, bound_to: str | None) -> bool:
    """True for a client on loopback, of a server bound to loopback, under a name of loopback, through no proxy.

    The bind address counts, since a proxy on this host makes all clients look local; the name counts, since a page
    elsewhere may let its own name lead here. `bound_to`: what the settings say of a server that does not tell it.
    """
    return is_near(request) and is_loopback(bound_to or request.environ.get("SERVER_NAME", ""))


def is_near(request: Request) -> bool:
    """True for a client on loopback, under a name of loopback, through no proxy: wherever the server is bound to."""
    environ = request.environ
    return (
        is_loopback(environ.get("REMOTE_ADDR", ""))
        and is_loopback(host_of(f"//{environ.get('HTTP_HOST', '')}"))
        and not any(name.startswith(PROXIED) for name in environ)
    )


def is_foreign(request: Request) -> bool:
    """True for what a page of another site makes its reader's browser send."""
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site", "none") == "cross-site"
    return origin != f"{request.scheme}://{request.host}"


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """True for localhost and the addresses of the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def host_of(url: str) -> str:
    """The host of a URL, '' for none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
