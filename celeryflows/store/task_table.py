"""The table of tasks that runs have sent out. Lock order: as all children of a run, see schema."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, text

from celeryflows.store.columns import ALONG, ID, KEY, NAME, long, metadata, partial_index

# A Celery task whose answer a step waits for; `next_at` is when somebody looks what became of it, null once its wait is
# over. `input` is what its message is made of, should it have to be sent again.
tasks = Table(
    "flows_tasks",
    metadata,
    Column("id", ID, primary_key=True),
    Column("run_id", ID, nullable=False),
    Column("key", KEY, nullable=False),
    Column("queue", NAME, nullable=False),
    long("input", nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    Column("sends", Integer, nullable=False, server_default=text("1")),
    Column("next_at", BigInteger),
)
Index("flows_tasks_of_run", tasks.c.run_id, tasks.c.key, unique=True)
Index("flows_tasks_by_queue", tasks.c.queue, tasks.c.sent_at)
partial_index("flows_tasks_due", [tasks.c.next_at], f"next_at IS NOT NULL AND {ALONG}")
