"""Its tasks."""

from contextlib import contextmanager
from functools import wraps

from celery import Task, shared_task
from celery_once import QueueOnce
from celery_singleton import Singleton as OneAtATime

from old_shop.app import app


@contextmanager
def redis_lock(name):
    yield name


def no_overlap(key):
    def decorate(fn):
        @wraps(fn)
        def inner(*args, **kwargs):
            return fn(*args, **kwargs)

        return inner

    return decorate


@app.task(bind=True, max_retries=5)
def charge(self, order_id):
    try:
        return {"order": order_id}
    except OSError as error:
        raise self.retry(exc=error, countdown=60) from error


@shared_task(
    autoretry_for=(ConnectionError,),
    retry_backoff=True,
)
def send_mail(to, subject="hello"):
    return [to, subject]


@app.task(rate_limit="10/m")
def translate(text):
    return text.upper()


@app.task
def geocode(address):
    return address


@app.task
def clean_up():
    return "clean"


@app.task
def report(to, days=7):
    return [to, days]


@app.task(base=OneAtATime, unique_on=["account"], lock_expiry=600)
def sync_account(account, full=False):
    return account


@app.task(base=QueueOnce, once={"graceful": True, "keys": ["shop", "day"]})
def close_day(shop, day):
    return [shop, day]


@app.task(bind=True)
@no_overlap("import-{file}")
def import_file(self, file):
    return file


@app.task
def rebuild(index):
    with redis_lock(f"rebuild-{index}"):
        return index


@app.task
def weigh(item):
    return len(item)


@app.task
def pack(weights):
    return sum(weights)


class Audit(Task):
    """A task that is a class."""

    name = "old_shop.tasks.audit"
    rate_limit = "1/s"
    autoretry_for = (OSError,)

    def run(self, book):
        return book


app.register_task(Audit())
