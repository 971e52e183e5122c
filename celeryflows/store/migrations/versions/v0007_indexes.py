"""Indexes of what is queued, at work, due, open or unrouted serve only who reads along them: see store/columns."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ALONG = "sends >= 0"
INDEXES = (
    ("running", "runs", "worker", "status = 'running'", ALONG),
    ("sent", "runs", "sent_at", "status = 'queued'", ALONG),
    ("wake", "runs", "wake_at", "wake_at IS NOT NULL", ALONG),
    ("expire", "runs", "expires_at", "expires_at IS NOT NULL", ALONG),
    ("finish", "runs", "finish_by", "finish_by IS NOT NULL", ALONG),
    ("running", "branches", "worker", "status = 'running'", ALONG),
    ("sent", "branches", "sent_at", "status = 'queued'", ALONG),
    ("wake", "branches", "wake_at", "wake_at IS NOT NULL", ALONG),
    ("open", "waits", "name, hash", "state = 'open'", "name > ''"),
    ("unrouted", "events", "stored_at", "(arrived_at IS NULL OR piece IS NOT NULL)", "stored_at >= 0"),
)


def _made_anew(*, along: bool) -> None:
    for name, of, columns, condition, marked in INDEXES:
        index, table = f"flows_{of}_{name}", f"flows_{of}"
        where = sa.text(f"{condition} AND {marked}" if along else condition)
        op.drop_index(index, table_name=table)
        op.create_index(index, table, columns.split(", "), postgresql_where=where, sqlite_where=where)


def upgrade() -> None:
    """Make them anew; older code goes on beside it, with plans by other indexes."""
    _made_anew(along=True)


def downgrade() -> None:
    """As they were."""
    _made_anew(along=False)
