"""Options of ours on existing tasks: who owns which, what is refused with its remedy. No worker."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, Task, _state, shared_task

from celeryflows import (
    Batch,
    Concurrency,
    ConfigurationError,
    DeclarationError,
    ExpressionError,
    Flows,
    OnCron,
    OnEvent,
    Priority,
    RateLimit,
    Throttle,
    Timeouts,
)

LIMITS = {"rate_limit": RateLimit(10, "1m"), "priority": Priority("kwargs.n"), "concurrency": 3}


def sync(account_id: int, n: int = 0) -> int:
    """Bring one account up to date.

    More about it."""
    return account_id


def bound(self: Any, account_id: int) -> int:
    return account_id


@pytest.fixture
def make() -> Iterator[Callable[..., Celery]]:
    apps = []

    def made(**options: Any) -> Celery:
        apps.append(Celery("options", broker="memory://", set_as_current=False, **options))
        return apps[-1]

    yield made
    for app in apps:
        app.close()


@pytest.fixture
def app(make: Callable[..., Celery]) -> Celery:
    app = make()
    Flows(app)
    return app


def task(app: Celery, fn: Callable[..., Any] = sync, **options: Any) -> Any:
    """A task of this app alone."""
    return app.task(shared=False, name=f"options.{fn.__name__}", **options)(fn)


def definition(app: Celery, name: str = "options.sync") -> Any:
    app.finalize()
    return app.flows._wiring.current.flows[name].definition  # type: ignore[attr-defined]


@pytest.mark.parametrize("when", ["before", "after", "after all was made"])
def test_a_flows_may_come_before_or_after_the_tasks(make: Callable[..., Celery], when: str) -> None:
    app = make()
    if when == "before":
        Flows(app)
    options = dict(LIMITS)
    if when == "after all was made":
        # Celery itself warns of a task's attribute of this name.
        del options["priority"]
    made = task(app, **options)
    if when == "after all was made":
        assert made.name == "options.sync"
    if when != "before":
        Flows(app)
    limits = definition(app).limits
    assert (limits.concurrency, limits.rate_limit.limit) == ((Concurrency(3),), 10)
    # What stayed on the task would keep Celery's worker from booting.
    assert (made.rate_limit, made.priority) == (None, None)
    assert not hasattr(made, "concurrency")


def test_options_with_celerys_values_are_celerys(app: Celery) -> None:
    made = task(app, rate_limit="10/m", max_retries=7)
    assert (made.rate_limit, made.max_retries) == ("10/m", 7)
    assert app.flows._wiring.current.tasks.names == set()  # type: ignore[attr-defined]


def test_a_tasks_first_line_is_its_flows_label(app: Celery) -> None:
    task(app, concurrency=1)
    assert definition(app).label == "Bring one account up to date."


def test_limited_tasks_ack_late_unless_they_say_otherwise(app: Celery) -> None:
    assert task(app, concurrency=1).acks_late
    assert not task(app, bound, bind=True, concurrency=1, acks_late=False).acks_late


@pytest.mark.parametrize(
    ("option", "meant"), [("concurency", "concurrency"), ("durabel", "durable"), ("throtle", "throttle")]
)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_nearly_is_an_option_of_ours_is_refused_with_its_name(
    make: Callable[..., Celery], option: str, meant: str, is_first: bool
) -> None:
    app = make()
    if is_first:
        Flows(app)
    task(app, **{option: 1})
    if not is_first:
        Flows(app)
    with pytest.raises(DeclarationError, match=f"options.sync.*{option!r}.*{meant!r}"):
        app.finalize()


def test_other_attributes_of_a_task_are_its_own(app: Celery) -> None:
    class Tenanted(Task):  # type: ignore[type-arg]
        abstract = True
        timeout = 3

    made = task(app, colour="blue", timeout=5, base=Tenanted)
    assert (made.colour, made.timeout) == ("blue", 5)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"concurrency": 0}, "whole number"),
        ({"throttle": 5}, "Throttle"),
        ({"concurrency": Concurrency(1, key="event.data.id", scope="nowhere")}, "scope"),  # type: ignore[arg-type]
        ({"batch": Batch(3, "1s")}, "durable=True"),
        ({"durable": "yes"}, "True"),
        ({"durable": True, "retries": 99}, "retries"),
        ({"timeouts": 3}, "Timeouts"),
    ],
)
def test_what_cannot_be_is_refused_when_the_task_is_made(app: Celery, options: Any, remedy: str) -> None:
    task(app, **options)
    with pytest.raises(DeclarationError, match=remedy) as raised:
        app.finalize()
    assert "options.sync" in str(raised.value)


def test_keys_of_a_task_may_look_at_event_and_kwargs_and_nothing_else(app: Celery) -> None:
    task(app, concurrency=Concurrency(1, key="[kwargs.account_id, event.data.n]"))
    task(app, bound, bind=True, throttle=Throttle(1, "1s", key="args.account_id"))
    with pytest.raises(ExpressionError, match="args"):
        app.finalize()
    with pytest.raises(ExpressionError, match="kwargs"):
        app.flows.flow(lambda ctx: None, name="f", concurrency=Concurrency(1, key="kwargs.a"))  # type: ignore[attr-defined]


def test_a_base_class_with_a_step_of_its_own_is_refused_for_durable_tasks(app: Celery) -> None:
    class Stepping(Task):  # type: ignore[type-arg]
        abstract = True

        def step(self) -> None: ...

    task(app, bound, bind=True, durable=True, base=Stepping)
    with pytest.raises(DeclarationError, match=r"Stepping has a 'step'"):
        app.finalize()


def test_a_class_that_somebody_wrote_keeps_its_attributes_but_for_our_types(app: Celery) -> None:
    class Crawl(Task):  # type: ignore[type-arg]
        name = "options.crawl"
        concurrency = 8

        def run(self, url: str) -> str:
            return url

    class Limited(Crawl):
        name = "options.limited"
        concurrency = Concurrency(2)

    app.register_task(Crawl())
    app.register_task(Limited())
    assert app.tasks["options.crawl"].concurrency == 8
    assert app.flows._wiring.current.tasks.names == {"options.limited"}  # type: ignore[attr-defined]


def test_tasks_with_our_options_in_an_app_without_flows_are_refused(make: Callable[..., Celery]) -> None:
    def nobody(account_id: int) -> None: ...

    app = make()
    task(app, nobody, rate_limit=RateLimit(1, "1s"), timeouts=Timeouts(start="1h"))
    with pytest.raises(ConfigurationError, match=r"options.nobody: rate_limit, timeouts.*Flows\(app\)"):
        app.finalize()


@pytest.fixture
def unshared() -> Iterator[None]:
    """What is shared in a test is not made on the apps of others."""
    before = set(_state._on_app_finalizers)
    yield
    _state._on_app_finalizers = before


@pytest.mark.usefixtures("unshared")
def test_a_task_of_an_app_with_flows_is_a_plain_one_on_the_others(make: Callable[..., Celery]) -> None:
    ours, early, late = make(), make(), make()
    Flows(ours)
    ours.task(name="options.sync", concurrency=Concurrency(2), rate_limit=RateLimit(1, "1s"))(sync)
    early.finalize()
    ours.finalize()
    late.finalize()
    assert [app.tasks["options.sync"].rate_limit for app in (ours, early, late)] == [None] * 3
    assert [hasattr(app.tasks["options.sync"], "concurrency") for app in (early, late)] == [False] * 2


@pytest.mark.usefixtures("unshared")
def test_shared_tasks_and_those_made_late_are_seen(make: Callable[..., Celery]) -> None:
    @shared_task(name="options.shared", concurrency=Concurrency(2))
    def shared(account_id: int) -> None: ...

    app = make()
    Flows(app)
    app.finalize()
    task(app, concurrency=2)
    assert app.flows._wiring.current.tasks.names == {"options.shared", "options.sync"}  # type: ignore[attr-defined]


# -- flows.on


@pytest.mark.parametrize(
    ("trigger", "options", "remedy"),
    [
        ([], {}, "no trigger"),
        ("0 9 * * *", {}, "OnCron"),
        ("a/b", {"kwargs": 7}, "function of the event"),
        ("a/b", {"kwargs": "{'a': evnt.data}"}, "evnt"),
        ("a/b", {"kwarg": "{}"}, "'kwargs'"),
        ("a/b", {"queue": "slow"}, "belong to the task"),
        ("a/b", {"name": ""}, "name="),
        ("a/b", {"batch": Batch(3, "1s")}, "plain task"),
    ],
)
def test_a_bad_trigger_of_a_task_is_refused_where_it_is_written(
    app: Celery, trigger: Any, options: Any, remedy: str
) -> None:
    made = task(app)
    with pytest.raises((DeclarationError, ExpressionError), match=remedy):
        app.flows.on(trigger, made, **options)  # type: ignore[attr-defined]


def test_triggers_of_a_task_are_those_of_one_flow_of_its_name(app: Celery) -> None:
    made = task(app)
    flows: Any = app.flows  # type: ignore[attr-defined]
    assert flows.on("a/b", made, kwargs="{'account_id': event.data.id}", throttle=Throttle(1, "1s")) is made
    flows.on([OnEvent("c/*"), OnCron("0 9 * * *")], "options.sync")
    found = definition(app)
    assert [getattr(one, "name", "cron") for one in found.triggers] == ["a/b", "c/*", "cron"]
    assert found.mappings == ("{'account_id': event.data.id}", None, None)
    assert found.limits.throttle == Throttle(1, found.limits.throttle.period)


def test_a_name_makes_another_flow_of_the_same_task(app: Celery) -> None:
    made = task(app)
    flows: Any = app.flows  # type: ignore[attr-defined]
    flows.on("a/b", made)
    flows.on("a/b", made, kwargs="{'account_id': 1}", name="options.again")
    assert (definition(app).task, definition(app, "options.again").task) == (None, "options.sync")


@pytest.mark.parametrize(
    ("first", "second", "remedy"),
    [
        ({}, {}, "name= of its own"),
        ({"throttle": Throttle(1, "1s")}, {"trigger": "c/d", "concurrency": 1}, "limits already"),
        ({"kwargs": dict}, {"trigger": "c/d", "concurrency": Concurrency(1, key="kwargs.a")}, "look at kwargs"),
        ({"task": "options.nobody"}, {"trigger": "c/d"}, "no task"),
        ({"task": "options.flow"}, {"trigger": "c/d"}, "is a flow"),
        ({"task": "options.bound", "name": "x"}, {"trigger": "c/d"}, "leave name= out"),
        ({"task": "options.bound", "concurrency": 1}, {"trigger": "c/d"}, "limits already"),
    ],
)
def test_what_cannot_stand_together_is_refused_at_finalize(app: Celery, first: Any, second: Any, remedy: str) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    task(app)
    task(app, bound, bind=True, durable=True)
    flows.flow(lambda ctx: None, name="options.flow")
    flows.on(**{"trigger": "a/b", "task": "options.sync", **first})
    flows.on(**{"trigger": "a/b", "task": "options.sync", **second})
    with pytest.raises(DeclarationError, match=remedy):
        app.finalize()


def test_a_flow_and_a_limited_task_of_one_name_are_refused(app: Celery) -> None:
    app.flows.flow(lambda ctx: None, name="options.sync")  # type: ignore[attr-defined]
    task(app, concurrency=1)
    with pytest.raises(DeclarationError, match=r"options\.sync"):
        app.finalize()
