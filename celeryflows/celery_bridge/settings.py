"""Celery settings named `flows_...` (under Django `CELERY_FLOWS_...`) as the engine's own, checked."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from celery import Celery

from celeryflows.celery_bridge.surroundings import surroundings
from celeryflows.durations import DAY, MINUTE, SECOND, parse_duration
from celeryflows.engine.settings import Settings
from celeryflows.errors import ConfigurationError, InvalidDuration
from celeryflows.settings.alerts import AlertRule, read_alerts
from celeryflows.settings.doors import NAMES as OF_DOORS
from celeryflows.settings.doors import DoorSettings, read_doors
from celeryflows.store.keyring import Keyring

DURATIONS = {"max_wait", "dedupe", "retention", "audit_retention", "beat_every", "dead_after", "leader_lease"}
SWITCHES = {"record_inputs"}
DJANGO = "django:"
PLAIN = {"store_url", "encryption_keys", "alerts", *OF_DOORS}
LEAST = {
    "beat_every": SECOND,
    "dead_after": 4 * SECOND,
    "leader_lease": 4 * SECOND,
    "retention": MINUTE,
    "audit_retention": DAY,
}


def read_settings(app: Celery) -> Settings:
    """The engine's settings of an app. Raises ConfigurationError for an unknown or unusable one."""
    given = _given(app)
    known = {f.name for f in fields(Settings)}
    for name in given.keys() - known - PLAIN:
        near = difflib.get_close_matches(name, known | PLAIN, n=1)
        hint = f" Did you mean flows_{near[0]}?" if near else ""
        raise ConfigurationError(f"Unknown setting flows_{name}.{hint}")
    values: dict[str, Any] = {name: _read(name, given[name]) for name in given.keys() & known}
    settings = Settings(**values)
    if settings.dead_after < 2 * settings.beat_every:
        raise ConfigurationError(
            "flows_dead_after must be at least twice flows_beat_every, or living workers look dead."
        )
    return settings


def store_url(app: Celery) -> str:
    """The store's URL: the setting, or an SQLite file in the user's state folder named after app and broker."""
    url = _given(app).get("store_url")
    if url is not None:
        if not isinstance(url, str) or not url:
            raise ConfigurationError(f"flows_store_url must be a database URL, got {url!r}")
        alias = _alias(url)
        return url if alias is None else _store_at(alias)
    broker = str(app.conf.broker_write_url or app.conf.broker_url or "amqp://")
    name = re.sub(r"[^\w-]+", "_", app_name(app))
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "celeryflows"
    return f"sqlite:///{folder / name}-{blake2b(broker.encode(), digest_size=4).hexdigest()}.db"


def database_alias(app: Celery) -> str | None:
    """The `<alias>` of `flows_store_url = "django:<alias>"`, None for any other URL."""
    return _alias(_given(app).get("store_url"))


def _alias(url: object) -> str | None:
    return (url.removeprefix(DJANGO) or "default") if isinstance(url, str) and url.startswith(DJANGO) else None


def _store_at(alias: str) -> str:
    around = surroundings()
    if around is None:
        raise ConfigurationError(
            f"flows_store_url={DJANGO + alias!r} needs 'celeryflows.contrib.django' in INSTALLED_APPS, and "
            "django.setup() before the store is used."
        )
    return around.store_url(alias)


def store_word(app: Celery) -> str:
    """What another process of the app is told to find the same store: an alias as it is, else the URL."""
    alias = database_alias(app)
    return store_url(app) if alias is None else f"{DJANGO}{alias}"


def sealer_of(app: Celery) -> Keyring | None:
    """What encrypts payloads: the keys of the setting, None without any. Raises ConfigurationError for a bad key."""
    given = _given(app).get("encryption_keys")
    if given is None:
        return None
    if not isinstance(given, str | bytes | list | tuple):
        raise ConfigurationError("flows_encryption_keys must be a list of Fernet keys, the first of which encrypts")
    return Keyring([given] if isinstance(given, str | bytes) else list(given))


def door_settings(app: Celery) -> DoorSettings:
    """Who may come in by HTTP, and how. Raises ConfigurationError, which names the entry and shows no secret."""
    return read_doors(_given(app))


def alert_rules(app: Celery) -> tuple[AlertRule, ...]:
    """The rules of alerts. Raises ConfigurationError, which names the entry and shows no address."""
    given = _given(app).get("alerts")
    return () if given is None else read_alerts(given)


def app_name(app: Celery) -> str:
    """The app's name, under which its flows and store are known."""
    return str(app.main or "celery")


def _given(app: Celery) -> Mapping[str, Any]:
    """Settings by their name without prefix; with a namespace (Django's CELERY_FLOWS_...), and upper-case without."""
    found: dict[str, Any] = {}
    namespace = f"{app.namespace}_".lower() if app.namespace else ""
    # Its keys are known after the first look.
    app.conf.get("flows_store_url")
    for key in sorted({*dir(app.conf), *app.conf.keys()}, reverse=True):
        name = key.lower().removeprefix(namespace)
        if name.startswith("flows_"):
            found[name.removeprefix("flows_")] = app.conf[name if namespace else key]
    return {name: value for name, value in found.items() if value is not None}


def _read(name: str, value: Any) -> int:
    if name in SWITCHES:
        if not isinstance(value, bool):
            raise ConfigurationError(f"flows_{name}={value!r}: True or False")
        return value
    if name in DURATIONS:
        try:
            length = parse_duration(value, f"flows_{name}")
        except InvalidDuration as error:
            raise ConfigurationError(str(error)) from None
        if length < LEAST.get(name, 0):
            raise ConfigurationError(f"flows_{name}={value!r} is too short; at least {LEAST[name] // SECOND} s")
        return length
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"flows_{name}={value!r}: a whole number above 0")
    return value
