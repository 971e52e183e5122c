"""A broker that keeps its messages in a list: they are taken in any order, doubled, lost one by one or all at once.

Beside it the queue of tasks of elsewhere, and their result backend."""

from celeryflows.model.remote_tasks import Outcome, SentTask
from celeryflows.model.runs import Delivery


class SimulatedBroker:
    """One queue."""

    def __init__(self) -> None:
        self.messages: list[Delivery] = []
        self.tasks: list[SentTask] = []
        self.results: dict[str, Outcome] = {}
        self._lives = 1

    def put(self, delivery: Delivery) -> None:
        """A message arrives."""
        self.messages.append(delivery)

    def take(self, pick: int) -> Delivery | None:
        """Any message, None when there is none."""
        return self.messages.pop(pick % len(self.messages)) if self.messages else None

    def double(self, pick: int) -> None:
        """Some message stands in the queue twice, and some task."""
        if self.messages:
            self.messages.append(self.messages[pick % len(self.messages)])
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
