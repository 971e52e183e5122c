"""Tells a story on a store whose link breaks, or where the database finds a conflict, at one point or at many."""

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.store import connection as connection_module
from celeryflows.store.schema import metadata
from tests.store.lossy import Break, LossyStore
from tests.store.stories import Bought, Linked, Sad, Story
from tests.store.story_of_groups import Spread
from tests.store.story_of_limits import Held

STORIES = {"bought": Bought, "sad": Sad, "linked": Linked, "spread": Spread, "held": Held}


@pytest.fixture
def lossy(migrated_url: str, clock: TurnedClock) -> Iterator[LossyStore]:
    made = LossyStore(migrated_url, clock)
    yield made
    made.dispose()


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try follows at once: what is still under way holds it up by its locks."""
    monkeypatch.setattr(connection_module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: None))


def told(
    name: str, store: LossyStore, clock: TurnedClock, link: Break = "after", at: int = -1, again_every: int = 0
) -> Story:
    """The story on an empty store, with the link broken at one commit or statement, again and again, or not at all."""
    store.break_link(link, -1)
    with store.begin() as tx:
        for table in metadata.tables:
            tx.execute(f"DELETE FROM {table}" + (" WHERE key <> 'identity'" if table == "flows_meta" else ""))
    story = STORIES[name](store, clock)
    story.runtime.dice = lambda: 0.5
    store.again_every = again_every
    store.break_link(link, at)
    story.tell()
    return story
