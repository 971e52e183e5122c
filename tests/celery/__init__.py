"""Flows as Celery tasks: calls, canvas, results, pools, options, discovery. With real Redis and real workers."""
