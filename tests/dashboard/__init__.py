"""The dashboard and its HTTP doors."""
