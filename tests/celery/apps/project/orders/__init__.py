"""A package with a flows.py."""
