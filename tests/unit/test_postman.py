"""Messages that wait a moment: those of what is begun in time are not sent, the others are, once."""

import threading
from collections.abc import Sequence

import pytest

from celeryflows.celery_bridge import postman
from celeryflows.celery_bridge.postman import Batch, Patience, Postman
from celeryflows.model.runs import Delivery
from tests.waiting import eventually


class Sent:
    """What was sent, and by which thread."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.threads: set[str] = set()

    def __call__(self, deliveries: Sequence[Delivery]) -> None:
        self.threads.add(threading.current_thread().name)
        self.paths += [delivery.branch for delivery in deliveries]


def deliveries(*paths: str) -> list[Delivery]:
    return [Delivery("run", "flow", None, path) for path in paths]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def let_go() -> Sent:
    """What others may have, before it is sent."""
    return Sent()


@pytest.fixture
def batch(sent: Sent, let_go: Sent) -> Batch:
    return Batch(sent, let_go, Postman(), Patience())


def test_what_is_left_is_let_go_before_it_is_sent(batch: Batch, sent: Sent, let_go: Sent) -> None:
    batch._send = lambda left: sent(left) if let_go.paths == ["b", "c"] else None
    batch.add(deliveries("a", "b", "c"))
    batch.begin("a")
    eventually(lambda: sent.paths == ["b", "c"])


def test_what_cannot_be_let_go_is_sent_and_the_thread_goes_on(sent: Sent) -> None:
    def fails(left: Sequence[Delivery]) -> None:
        raise ZeroDivisionError

    office = Postman()
    Batch(sent, fails, office, Patience()).add(deliveries("a"))
    eventually(lambda: sent.paths == ["a"])
    Batch(sent, Sent(), office, Patience()).add(deliveries("b"))
    eventually(lambda: sent.paths == ["a", "b"])


def test_a_last_one_that_takes_its_time_lets_go_of_what_was_before(batch: Batch, sent: Sent, let_go: Sent) -> None:
    batch.add(deliveries("a"))
    batch.begin("a")
    eventually(lambda: let_go.threads == {"celeryflows-postman"})
    assert (let_go.paths, sent.paths) == ([], [])


def test_messages_of_the_others_are_sent_while_the_first_is_at_work(batch: Batch, sent: Sent) -> None:
    batch.add(deliveries("a", "b", "c"))
    batch.begin("a")
    eventually(lambda: sent.paths == ["b", "c"])
    assert sent.threads == {"celeryflows-postman"}
    batch.begin("b")
    batch.release()
    assert sent.paths == ["b", "c"]


def test_what_is_begun_in_time_is_never_sent(batch: Batch, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_patience", Patience(60.0, 60.0))
    batch.add(deliveries("a", "b", "c"))
    batch.begin("a")
    batch.begin("b")
    batch.release()
    batch.release()
    assert (sent.paths, sent.threads) == (["c"], {threading.current_thread().name})


def test_many_short_ones_do_not_hold_the_rest_back_for_long(
    batch: Batch, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_patience", Patience(60.0, 0.05))
    batch.add(deliveries(*"abc"))
    batch.begin("a")
    eventually(lambda: sent.paths == ["b", "c"])


def test_a_later_group_waits_its_own_moment(batch: Batch, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_patience", Patience(60.0, 0.0))
    batch.add(deliveries("a"))
    eventually(lambda: sent.paths == ["a"])
    monkeypatch.setattr(batch, "_patience", Patience(60.0, 60.0))
    batch.add(deliveries("b"))
    assert batch.due is not None
    batch.begin("b")
    # What was before it is let go of when it takes its time.
    assert batch.due is not None
    batch.release()
    assert (batch.due, sent.paths) == (None, ["a"])


def test_one_thread_serves_many_batches_and_another_process_starts_its_own(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Postman()
    before = threading.active_count()
    for path in "abc":
        Batch(sent, Sent(), office, Patience()).add(deliveries(path))
    eventually(lambda: sorted(sent.paths) == ["a", "b", "c"])
    assert threading.active_count() == before + 1
    # As after a fork, which takes no thread along.
    monkeypatch.setattr(postman.os, "getpid", lambda: -1)
    Batch(sent, Sent(), office, Patience()).add(deliveries("d"))
    eventually(lambda: "d" in sent.paths)
    assert threading.active_count() == before + 2
