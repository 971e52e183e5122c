"""A project whose packages keep their flows in flows.py, for discovery."""
