"""Web frameworks around flows."""
