"""Read-only views for the console: plain Core, never in a hot path."""
