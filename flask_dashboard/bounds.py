"""How much may come in: requests of one address at each door, and bytes of one request."""

from collections.abc import Mapping

from flask import Request
from limits import RateLimitItem, parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import HTTPException, TooManyRequests


class Bounds:
    """`rates` is a rate for each door; `storage` where it is counted, as the library `limits` names it: "memory://"
    counts in each process, "redis://..." for all."""

    def __init__(self, rates: Mapping[str, str], storage: str) -> None:
        self._rates: dict[str, RateLimitItem] = {door: parse(rate) for door, rate in rates.items()}
        self._limiter = FixedWindowRateLimiter(storage_from_string(storage))

    def pass_one(self, door: str, request: Request) -> None:
        """Let one request through. Raises 429 Too Many Requests."""
        rate = self._rates[door]
        if not self._limiter.hit(rate, door, request.remote_addr or ""):
            raise TooManyRequests(f"Too many requests: at most {rate}.", retry_after=rate.get_expiry())


def headers_of(error: Exception) -> dict[str, str]:
    """What a client that is refused may be told beside the words."""
    found = error.get_headers() if isinstance(error, HTTPException) else ()
    return {name: value for name, value in found if name in ("Retry-After", "Allow", "WWW-Authenticate")}
