"""One command, which has all others."""
