"""Nouns: frozen values, no I/O."""
