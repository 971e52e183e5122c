"""The dashboard: pages, Event API and REST API as a Flask blueprint, over `celeryflows.console`.

Not built yet: this package holds its place and its name, and offers nothing to import."""
