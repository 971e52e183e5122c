"""A shop on plain Celery, as it is found before anything of ours is in it. The tests copy it."""
