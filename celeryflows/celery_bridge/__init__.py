"""Celery's only room: flows as tasks, messages, results, and the worker's scheduler thread."""
