"""Old and new code side by side: what an old worker does not know is not lost, and waits for a new one."""

import json
from collections.abc import Callable

import pytest

from tests.celery.apps import works
from tests.waiting import eventually
from tests.worlds import BRISK, World

SOON = 45.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite", **BRISK)


def test_a_message_of_a_flow_that_a_worker_does_not_know_goes_to_one_that_does(world: World) -> None:
    new = world.app(works.sheet)
    with world.worker("tests.celery.apps.crons", "-P", "solo") as old:
        called = new.tasks["works.quick"].delay()
        eventually(lambda: "Received unregistered task of type 'works.quick'" in old.log)
        eventually(lambda: world.rows("SELECT sends FROM flows_runs WHERE id = :id", id=called.id)[0][0] > 0)
        assert world.status(called.id) == "queued"
    with world.worker("tests.celery.apps.works", "-P", "solo"):
        # Five seconds, and as many again for each time that it was sent.
        world.age_messages(30)
        assert new.flows.run(called.id).get(timeout=SOON) == 1


def test_what_the_newest_release_declares_holds_over_an_old_worker_that_starts_later(world: World) -> None:
    def declared() -> list[str]:
        [(text,)] = world.rows("SELECT definition FROM flows_flows WHERE name = 'works.asked'")
        return [trigger["event"] for trigger in json.loads(text)["triggers"]]

    assert declared() == ["works/asked"]
    renamed = {"WORKS_ASKED": "works/asked.anew"}
    with world.worker("tests.celery.apps.works", "-P", "solo", env=renamed):
        eventually(lambda: declared() == ["works/asked.anew"])
        with world.worker("tests.celery.apps.works", "-P", "solo"):
            assert declared() == ["works/asked.anew"]
        # The new one is gone: a roll-back counts again.
    with world.worker("tests.celery.apps.works", "-P", "solo"):
        eventually(lambda: declared() == ["works/asked"], within=20)
