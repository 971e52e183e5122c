"""Signatures of webhooks: whether a call is from whom it says. Compared in constant time; old moments are refused.

The schemes are as their owners document them: Stripe's `Stripe-Signature`, GitHub's `X-Hub-Signature-256`, Slack's
`X-Slack-Signature`, and a plain HMAC of the body."""

import hmac
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping

from celeryflows.console.doors import Hook

Headers = Mapping[str, str]
SECOND = 1_000_000


def is_signed(hook: Hook, headers: Headers, body: bytes, now: int) -> bool:
    """True when one of the hook's secrets signed this body, lately. `now` in microseconds; header names lower-case."""
    return _SCHEMES[hook.scheme](hook, headers, body, now)


def _stripe(hook: Hook, headers: Headers, body: bytes, now: int) -> bool:
    parts = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
    moment = next((value for name, _, value in parts if name == "t"), "")
    given = [value for name, _, value in parts if name == "v1"]
    return _is_recent(hook, moment, now) and _any_equal(
        (_hex(secret, f"{moment}.".encode() + body, "sha256") for secret in hook.secrets), given
    )


def _github(hook: Hook, headers: Headers, body: bytes, now: int) -> bool:
    given = headers.get("x-hub-signature-256", "")
    return _any_equal((f"sha256={_hex(secret, body, 'sha256')}" for secret in hook.secrets), [given])


def _slack(hook: Hook, headers: Headers, body: bytes, now: int) -> bool:
    moment = headers.get("x-slack-request-timestamp", "")
    signed = f"v0:{moment}:".encode() + body
    given = headers.get("x-slack-signature", "")
    return _is_recent(hook, moment, now) and _any_equal(
        (f"v0={_hex(secret, signed, 'sha256')}" for secret in hook.secrets), [given]
    )


def _hmac(hook: Hook, headers: Headers, body: bytes, now: int) -> bool:
    given = headers.get(hook.header.lower(), "")
    signed = body
    if hook.timestamp_header is not None:
        moment = headers.get(hook.timestamp_header.lower(), "")
        if not _is_recent(hook, moment, now):
            return False
        signed = f"{moment}.".encode() + body
    return _any_equal((hook.prefix + _written(hook, secret, signed) for secret in hook.secrets), [given])


def _written(hook: Hook, secret: str, signed: bytes) -> str:
    digest = hmac.digest(secret.encode(), signed, hook.algorithm)
    return digest.hex() if hook.encoding == "hex" else b64encode(digest).decode()


def _hex(secret: str, signed: bytes, algorithm: str) -> str:
    return hmac.digest(secret.encode(), signed, algorithm).hex()


def _is_recent(hook: Hook, moment: str, now: int) -> bool:
    if not (moment.isascii() and moment.isdecimal() and len(moment) <= 12):
        return False
    return abs(now - int(moment) * SECOND) <= hook.tolerance


def _any_equal(wanted: Iterator[str], given: list[str]) -> bool:
    """All pairs are compared, whichever fits."""
    shown = [text.encode("utf-8", "replace") for text in given]
    equal = [hmac.compare_digest(one.encode(), other) for one in wanted for other in shown]
    return any(equal)


_SCHEMES: dict[str, Callable[[Hook, Headers, bytes, int], bool]] = {
    "stripe": _stripe,
    "github": _github,
    "slack": _slack,
    "hmac": _hmac,
}
