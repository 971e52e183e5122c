"""A package without one."""
