"""Rate limits: so many runs at once, then one each interval; what comes too early is a skipped run with its reason."""

from typing import Any

from celeryflows import Event, RateLimit, Status
from celeryflows.scheduler.sweeper import forget_old
from celeryflows.signals import LimitNews, limit_reached, run_skipped
from tests.engine.world import World, statuses

DONE, SKIPPED = Status.COMPLETED, Status.SKIPPED


def declared(world: World, **options: Any) -> Any:
    @world.flow(name="shop.mail", trigger="mail/asked", **options)
    def mail(ctx: Any) -> Any:
        return ctx.event.data.get("n")

    world.start_worker()
    return mail


def test_so_many_run_in_the_period_and_the_rest_are_skipped_with_the_reason(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(2, "1m"))
    for n in range(4):
        turned.send("mail/asked", {"n": n})
    runs = turned.runs("shop.mail")
    assert statuses(runs) == [DONE, DONE, SKIPPED, SKIPPED]
    assert runs[3].reason == "rate limit: more than 2 in 1 minute; the next one passes at 2024-01-01T00:00:30.000+00:00"


def test_after_the_first_ones_one_passes_each_interval(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(2, "1m"))
    passed = []
    for n in range(13):
        turned.send("mail/asked", {"n": n})
        passed.append(turned.runs("shop.mail")[-1].status == DONE)
        turned.advance("10s")
    assert passed == [True, True, False, True, False, False, True, False, False, True, False, False, True]


def test_keys_are_apart_and_null_is_a_key(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(1, "1m", key="event.data.user"))
    turned.send(
        [Event("mail/asked", data) for data in ({"user": "a"}, {"user": "b"}, {"user": "a"}, {}, {"user": None})]
    )
    runs = turned.runs("shop.mail")
    assert statuses(runs) == [DONE, DONE, SKIPPED, DONE, SKIPPED]
    assert 'for "a"' in (runs[2].reason or "")


def test_a_repeated_event_id_takes_nothing_of_the_rate(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(2, "1m"))
    for key in ("one", "one", "one", "two", "three"):
        turned.send("mail/asked", id=key)
    assert statuses(turned.runs("shop.mail")) == [DONE, SKIPPED, SKIPPED, DONE, SKIPPED]


def test_calls_and_invokes_are_limited_too(turned: World) -> None:
    mail = declared(turned, rate_limit=RateLimit(1, "1m"))

    @turned.flow(name="shop.caller")
    def caller(ctx: Any) -> Any:
        return ctx.step.invoke("mail", "shop.mail", {"n": 2})

    turned.start_worker()
    mail.delay(n=1)
    caller.delay()
    turned.drain()
    assert sorted(statuses(turned.runs("shop.mail"))) == [DONE, SKIPPED]
    failed = turned.only_run("shop.caller")
    assert failed.status == Status.FAILED
    assert "rate limit" in (failed.error.message if failed.error else "")


def test_a_new_number_counts_at_once(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(1, "1m"))
    turned.send("mail/asked")
    turned.send("mail/asked")
    next_release = turned.process()

    @next_release.flow(name="shop.mail", trigger="mail/asked", rate_limit=RateLimit(60, "1m"))
    def mail(ctx: Any) -> None: ...

    next_release.start_worker()
    turned.advance("1s")
    turned.send("mail/asked")
    assert statuses(turned.runs("shop.mail")) == [DONE, SKIPPED, DONE]


def test_those_who_listen_hear_of_the_limit_and_of_the_skip(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(1, "1m", key="event.data.user"))
    limits: list[LimitNews] = []
    skips: list[Any] = []

    def on_limit(sender: str, limit: LimitNews) -> None:
        limits.append(limit)

    def on_skip(sender: str, run: Any) -> None:
        skips.append(run)

    with limit_reached.connected_to(on_limit), run_skipped.connected_to(on_skip):
        turned.send("mail/asked", {"user": "a"})
        turned.send("mail/asked", {"user": "a"})
    skipped = turned.runs("shop.mail")[1]
    assert limits == [LimitNews(skipped.id, "shop.mail", "rate_limit", '"a"', "skipped")]
    assert [run.reason for run in skips] == [skipped.reason]


def test_meters_that_stand_as_new_are_forgotten(turned: World) -> None:
    declared(turned, rate_limit=RateLimit(1, "1m", key="event.data.user"))
    turned.send([Event("mail/asked", {"user": user}) for user in ("a", "b")])
    turned.advance("59s")
    turned.send("mail/asked", {"user": "c"})
    turned.advance("1s")
    forget_old(turned.runtime)
    assert [row[0] for row in turned.store_rows("SELECT value FROM flows_meters")] == ['"c"']
