"""A broker that keeps its messages in a list: they are taken in any order, doubled, lost one by one or all at once.

Beside it the queue of tasks of elsewhere, and their result backend."""

from collections.abc import Sequence
from dataclasses import replace

from celeryflows.model.remote_tasks import Outcome, SentTask
from celeryflows.model.runs import Delivery
from tests.simulation.messages import Bundle, Message


class SimulatedBroker:
    """One queue."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.tasks: list[SentTask] = []
        self.results: dict[str, Outcome] = {}
        self._lives = 1
        self._bundles = 0

    def put(self, message: Message) -> None:
        """A message arrives."""
        self.messages.append(message)

    def pack(self, runs: Sequence[Delivery]) -> Bundle:
        """One message for all of them."""
        self._bundles += 1
        return Bundle(str(self._bundles), tuple(runs))

    def redeliver(self, bundle: Bundle) -> None:
        """Whoever had it died."""
        if bundle.comes_back:
            self.messages.append(replace(bundle, redelivered=True))

    def take(self, pick: int) -> Message | None:
        """Any message, None when there is none."""
        return self.messages.pop(pick % len(self.messages)) if self.messages else None

    def double(self, pick: int) -> None:
        """Some message stands in the queue twice, and some task. Of a bundle that a busy worker has fetched and not
        begun, the runs may be sent too."""
        if self.messages:
            found = self.messages[pick % len(self.messages)]
            if isinstance(found, Bundle) and pick % 2:
                self.messages += [replace(one, alone=True) for one in found.runs]
            else:
                self.messages.append(found)
        if self.tasks:
            self.tasks.append(self.tasks[pick % len(self.tasks)])

    def take_task(self, pick: int) -> SentTask | None:
        """Any task, None when there is none."""
        return self.tasks.pop(pick % len(self.tasks)) if self.tasks else None

    def flush(self) -> None:
        """Everything is lost, and the broker does not know itself again."""
        self.messages.clear()
        self.tasks.clear()
        self.results.clear()
        self._lives += 1

    # -- what the sweeper asks

    def epoch(self) -> str | None:
        """Another word after each loss of everything."""
        return f"life {self._lives}"

    def queue_of(self, delivery: Delivery) -> str:
        """One queue for all."""
        return "celery"

    def length(self, queue: str) -> int | None:
        """Messages that nobody has taken."""
        return len(self.messages)
