"""A sender that is killed: `python outbox_sender.py URL session|connection before|after`, seen from the commit.

It dies by SIGKILL, so that nothing of it cleans up."""

import os
import signal
import sys

from celery import Celery
from sqlalchemy import event
from sqlalchemy.orm import Session

from celeryflows import Flows
from tests.engine.orders import Order, callers_engine


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, how: str, when: str) -> None:
    celery = Celery("shop", broker="memory://", set_as_current=False)
    celery.conf.flows_store_url = url
    flows = Flows(celery)
    flows.flow(name="ship", trigger="order/paid")(lambda ctx: ctx.event.data["n"])
    engine = callers_engine(flows.runtime.store.url)
    with Session(engine) as session:
        if when == "after":
            # Registered before ours: it strikes between the commit and the routing.
            event.listen(session, "after_commit", die)
        session.add(Order(id=1))
        session.flush()
        transaction = session if how == "session" else session.connection()
        flows.send("order/paid", {"n": 1}, transaction=transaction)
        if when == "before":
            die()
        session.commit()


if __name__ == "__main__":
    main(*sys.argv[1:])
