"""Takes a store back to an older version of the schema, whichever later one it has."""

import sys

from celeryflows.store.database import Store
from celeryflows.store.upgrade import downgrade
from tests.chaos.later import LESS, become, know_migrations

become(LESS)
know_migrations(LESS)
url, version = sys.argv[1:]
downgrade(Store(url), version)
