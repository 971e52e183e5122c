"""Verbs: one file for each leg of a run's trip. It does what the rules decide and the store remembers."""
