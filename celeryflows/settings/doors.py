"""Who may come in by HTTP, and how much at a time: keys, users, a trusted proxy, origins, rates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from celeryflows.errors import ConfigurationError
from celeryflows.settings.hooks import Hook, read_hooks
from celeryflows.settings.reading import one_of, table_of, text_of, texts_of

LOOK, ACT = "look", "act"
ROLES = (LOOK, ACT)
MIB = 1024 * 1024
# What one address may ask for; each door's own bound.
RATES = {
    "events": "3000/second",
    "rest": "100/second",
    "hooks": "200/second",
    "pages": "100/second",
    "login": "10/minute",
    "refused": "60/minute",
}
_RATE = re.compile(r"\d{1,9} ?(/|per) ?(\d+ ?)?(second|minute|hour|day)s?")
_HASHED = re.compile(r"(scrypt|pbkdf2)(:[\w.-]+)*\$[^$]+\$[0-9a-f]+")
NAMES = (
    "event_keys",
    "api_keys",
    "users",
    "proxy_login",
    "hooks",
    "cors_origins",
    "rates",
    "rate_storage",
    "max_body_bytes",
    "secret_key",
    "bound_to",
)


@dataclass(frozen=True, slots=True)
class User:
    """Who may log in: a password's hash, never the password, and what the user may do."""

    name: str
    role: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProxyLogin:
    """The login of a proxy before us: the headers in which it tells user and role, and the addresses it comes from."""

    user: str
    role: str | None
    networks: tuple[IPv4Network | IPv6Network, ...]
    default: str = LOOK


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """All of it. Keys are SHA-256 of what was given. `bound_to`: the address of a server that does not tell its own."""

    event_keys: tuple[str, ...] = field(default=(), repr=False)
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    users: Mapping[str, User] = field(default_factory=dict)
    proxy_login: ProxyLogin | None = None
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    cors_origins: tuple[str, ...] = ()
    rates: Mapping[str, str] = field(default_factory=lambda: dict(RATES))
    rate_storage: str = field(default="memory://", repr=False)
    max_body_bytes: int = 16 * MIB
    secret_key: str | None = field(default=None, repr=False)
    bound_to: str | None = None

    @property
    def needs_login(self) -> bool:
        """True when somebody has said who may come in: then nobody comes in without, not from this host either."""
        return bool(self.users) or self.proxy_login is not None


def hashed(secret: str) -> str:
    """What is kept of a key. Keys are long and random: they need no slow hash."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_doors(given: Mapping[str, Any]) -> DoorSettings:
    """The settings, by their names without `flows_`. Raises ConfigurationError, which names the entry."""
    values: dict[str, Any] = {name: _READERS[name](given[name]) for name in NAMES if name in given}
    return DoorSettings(**values)


def _keys(name: str, value: Any) -> tuple[str, ...]:
    return tuple(hashed(key) for key in texts_of(value, f"flows_{name}", remedy="Is its environment variable set?"))


def _users(value: Any) -> Mapping[str, User]:
    return {name: _user(name, entry) for name, entry in table_of(value, "flows_users").items()}


def _user(name: str, entry: Any) -> User:
    where = f"flows_users[{name!r}]"
    table = table_of(entry, where, ("password", "role"))
    password = text_of(table.get("password"), f"{where}['password']")
    if not _HASHED.fullmatch(password):
        raise ConfigurationError(
            f"{where}['password'] is no hash of a password. Make one: celery -A <app> flows hash-password"
        )
    return User(name, one_of(table.get("role", LOOK), f"{where}['role']", ROLES), password)


def _proxy(value: Any) -> ProxyLogin:
    where = "flows_proxy_login"
    table = table_of(value, where, ("user", "role", "from", "default"))
    try:
        networks = tuple(ip_network(text) for text in texts_of(table.get("from", ()), f"{where}['from']"))
    except ValueError as error:
        raise ConfigurationError(f"{where}['from']: {error}") from None
    if not networks:
        raise ConfigurationError(f"{where}['from'] must name the addresses of the proxy, such as '10.0.0.7/32'")
    role = table.get("role")
    return ProxyLogin(
        text_of(table.get("user"), f"{where}['user']", remedy="It is the header in which the proxy tells who it is."),
        None if role is None else text_of(role, f"{where}['role']"),
        networks,
        one_of(table.get("default", LOOK), f"{where}['default']", ROLES),
    )


def _rates(value: Any) -> Mapping[str, str]:
    given = table_of(value, "flows_rates", RATES)
    for name, rate in given.items():
        if not isinstance(rate, str) or not _RATE.fullmatch(rate):
            raise ConfigurationError(f"flows_rates[{name!r}] must be a rate such as '100/second', got {rate!r:.40}")
    return {**RATES, **given}


def _bytes(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"flows_max_body_bytes={value!r}: a whole number above 0")
    return value


def _secret(value: Any) -> str:
    secret = text_of(value, "flows_secret_key", remedy="Is its environment variable set?")
    if len(secret) < 16:
        raise ConfigurationError("flows_secret_key must have at least 16 characters; it signs the logins")
    return secret


def _bound_to(value: Any) -> str:
    address = text_of(value, "flows_bound_to")
    try:
        return address if address == "localhost" else str(ip_address(address))
    except ValueError:
        raise ConfigurationError(
            f"flows_bound_to={value!r:.60}: the address that the server listens at, such as '127.0.0.1', without a port"
        ) from None


_READERS = {
    "event_keys": lambda value: _keys("event_keys", value),
    "api_keys": lambda value: _keys("api_keys", value),
    "users": _users,
    "proxy_login": _proxy,
    "hooks": read_hooks,
    "cors_origins": lambda value: texts_of(value, "flows_cors_origins"),
    "rates": _rates,
    "rate_storage": lambda value: text_of(value, "flows_rate_storage"),
    "max_body_bytes": _bytes,
    "secret_key": _secret,
    "bound_to": _bound_to,
}
