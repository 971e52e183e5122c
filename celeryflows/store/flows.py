"""Declared flows and releases, so that a service without flow code can route; `flows_meta` tells when they changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.errors import PayloadLocked
from celeryflows.model.flows import FlowDefinition
from celeryflows.store.executor import Verbs

SEALED_UNDER = "sealed_under"


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """A flow's row."""

    name: str
    app: str
    hash: str
    definition: str
    removed_at: int | None
    paused_at: int | None = None


class Flows(Verbs):
    """The verbs of declared flows and of the store's own facts."""

    def version(self) -> str:
        """Changes with each change of the declared flows."""
        return self.fact("flows_version") or "0"

    def fact(self, key: str) -> str | None:
        """One of the store's own facts."""
        rows = self._execute("SELECT value FROM flows_meta WHERE key = :key", key=key)
        return rows[0][0] if rows else None

    def put_fact(self, key: str, value: str) -> None:
        """Set a fact."""
        self._execute(
            "INSERT INTO flows_meta (key, value) VALUES (:key, :fact) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key=key,
            fact=value,
        )

    def change_fact(self, key: str, value: str) -> bool:
        """Set a fact; False when it is so already: of several who try at once one changes it."""
        return bool(
            self._execute(
                "INSERT INTO flows_meta (key, value) VALUES (:key, :fact) ON CONFLICT (key) DO UPDATE "
                "SET value = excluded.value WHERE flows_meta.value <> excluded.value RETURNING key",
                key=key,
                fact=value,
            )
        )

    def first_fact(self, key: str, value: str) -> str:
        """Set a fact unless it is there; the one that holds."""
        self._execute(
            "INSERT INTO flows_meta (key, value) VALUES (:key, :fact) ON CONFLICT DO NOTHING", key=key, fact=value
        )
        return self.fact(key) or value

    def sealed_under(self) -> list[str]:
        """The fingerprints of the keys under which payloads may be sealed, the newest last."""
        return (self.fact(SEALED_UNDER) or "").split()

    def seal_under(self, fingerprint: str) -> None:
        """From now on payloads are sealed under this key too: every process has to know."""
        self.touch()
        known = self.sealed_under()
        if fingerprint not in known:
            self.put_fact(SEALED_UNDER, " ".join([*known, fingerprint]))

    def seal_under_only(self, fingerprint: str | None) -> None:
        """No payload is sealed under any other key; None: none is sealed."""
        self.touch()
        self.put_fact(SEALED_UNDER, fingerprint or "")

    def check_keys(self) -> None:
        """Raise PayloadLocked when payloads may be sealed under keys that this process lacks: it would write plain
        what is to be sealed, and its events would miss the waits of others."""
        sealer = self._connection.sealer
        mine = sealer.fingerprints if sealer is not None else frozenset()
        lacking = [name for name in self.sealed_under() if name not in mine]
        if lacking:
            raise PayloadLocked(
                f"The store's payloads are encrypted, also under the key {lacking[0]}, which this process lacks. Put "
                "it into flows_encryption_keys, behind the first one if that is newer; or, when it shall go, run "
                "first: celery -A <app> flows rotate-keys"
            )

    def all(self) -> list[StoredFlow]:
        """Every flow, removed ones included."""
        rows = self._execute("SELECT name, app, hash, definition, removed_at, paused_at FROM flows_flows ORDER BY name")
        return [StoredFlow(*row) for row in rows]

    def touch(self) -> None:
        """Tell every process to read the flows again. Serialises those who declare."""
        self._execute(
            "INSERT INTO flows_meta (key, value) VALUES ('flows_version', '1') "
            "ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(flows_meta.value AS bigint) + 1 AS varchar(256))"
        )

    def put(self, app: str, flows: Sequence[FlowDefinition]) -> None:
        """Write definitions over what is there."""
        for flow in flows:
            self._execute(
                "INSERT INTO flows_flows (name, app, hash, definition, seen_at) "
                "VALUES (:name, :app, :hash, :text, {now}) "
                "ON CONFLICT (name) DO UPDATE SET app = excluded.app, hash = excluded.hash, "
                "definition = excluded.definition, seen_at = excluded.seen_at, removed_at = NULL",
                name=flow.name,
                app=app,
                hash=flow.hash,
                text=flow.text(),
            )

    def remove(self, names: Sequence[str]) -> None:
        """Flows that the app no longer has: nothing starts them any more."""
        self._execute(
            "UPDATE flows_flows SET removed_at = {now} WHERE name {in_texts:names} AND removed_at IS NULL",
            names=self._array(names),
        )

    def pause(self, name: str) -> bool:
        """From now on nothing starts it; False when it was paused before. What is declared anew stays paused."""
        return bool(
            self._execute(
                "UPDATE flows_flows SET paused_at = {now} WHERE name = :name AND paused_at IS NULL RETURNING name",
                name=name,
            )
        )

    def resume(self, name: str) -> bool:
        """It may start again; False when it was not paused."""
        return bool(
            self._execute(
                "UPDATE flows_flows SET paused_at = NULL WHERE name = :name AND paused_at IS NOT NULL RETURNING name",
                name=name,
            )
        )

    def newest_release(self, app: str) -> str | None:
        """The release that counts for the app."""
        rows = self._execute(
            "SELECT hash FROM flows_releases WHERE app = :app ORDER BY first_seen DESC, hash LIMIT 1", app=app
        )
        return rows[0][0] if rows else None

    def add_release(self, app: str, release: str) -> bool:
        """True when it was never seen before."""
        return bool(
            self._execute(
                "INSERT INTO flows_releases (app, hash, first_seen) VALUES (:app, :hash, {now}) "
                "ON CONFLICT DO NOTHING RETURNING hash",
                app=app,
                hash=release,
            )
        )

    def renew_release(self, app: str, release: str) -> None:
        """A release that came back becomes the newest."""
        self._execute(
            "UPDATE flows_releases SET first_seen = {now} WHERE app = :app AND hash = :hash", app=app, hash=release
        )
