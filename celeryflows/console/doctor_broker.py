"""The doctor's look at the broker: does it answer, is it the store's, how long are its queues."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from celeryflows.console.doctor_store import StoreFacts
from celeryflows.console.findings import Finding, bad, ok, warn

LEAST_REDIS = (6, 2)
SHORT_VISIBILITY = 60


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What was seen of the broker. `problem` says why nothing was; `kept_store` is the store that it remembers.

    `queues` are the lengths of those that the flows go to, None where the broker cannot tell. `visibility_timeout` is
    in seconds, None for a broker that has none.
    """

    url: str
    transport: str
    problem: str = ""
    version: str = ""
    keeps_words: bool = False
    kept_store: str | None = None
    kept_key: str = ""
    queues: Mapping[str, int | None] = field(default_factory=dict)
    visibility_timeout: int | None = None


def check_broker(facts: BrokerFacts, store: StoreFacts | None) -> list[Finding]:
    """Broker, identity of the store, queues, visibility timeout."""
    if facts.problem:
        text = f"{facts.url} does not answer ({facts.problem})"
        remedy = "Start it, or mend broker_url. Events are accepted meanwhile, and their runs start when it is back."
        return [bad("broker", text, remedy)]
    return [
        _broker(facts),
        *([_identity(facts, store)] if facts.keeps_words and store is not None and store.usable else []),
        _queues(facts),
        *([_visibility(facts)] if facts.visibility_timeout is not None else []),
    ]


def _broker(facts: BrokerFacts) -> Finding:
    shown = f"{facts.url} answers" + (f", Redis {facts.version}" if facts.version else "")
    if facts.transport == "memory":
        return warn("broker", f"{facts.url} lives in one process", "Use Redis or RabbitMQ for more than one process.")
    number = tuple(int(part) for part in facts.version.split(".")[:2] if part.isdigit())
    if number and number < LEAST_REDIS:
        return bad("broker", shown, "Celery's Redis transport needs Redis 6.2 or newer.")
    return ok("broker", shown)


def _identity(facts: BrokerFacts, store: StoreFacts | None) -> Finding:
    identity = store.identity if store is not None else ""
    if facts.kept_store is None:
        return ok("store identity", "the broker remembers no store yet; the first worker tells it")
    kept, _, url = facts.kept_store.partition(" ")
    if kept == identity:
        return ok("store identity", "the broker remembers this store")
    remedy = (
        "Set the same flows_store_url everywhere; or, when the store was moved or removed on purpose, delete the key "
        f"{facts.kept_key!r} in the broker. Workers refuse to start until then."
    )
    return bad("store identity", f"the broker remembers another store for this app: {url}", remedy)


def _queues(facts: BrokerFacts) -> Finding:
    shown = ", ".join(f"{name} {'?' if n is None else f'{n:,}'}" for name, n in sorted(facts.queues.items()))
    return ok("messages", f"waiting in the broker: {shown or 'no queue known'}")


def _visibility(facts: BrokerFacts) -> Finding:
    seconds = facts.visibility_timeout or 0
    shown = f"{seconds:,} s; runs do not depend on it"
    if seconds >= SHORT_VISIBILITY:
        return ok("visibility_timeout", shown)
    text = f"{seconds:,} s: Redis hands a message out again after that, also while a task is at work on it"
    return warn(
        "visibility_timeout", text, "Runs are fenced against it; plain tasks with acks_late run twice. Raise it."
    )
