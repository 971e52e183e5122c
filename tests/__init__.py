"""The promises of celeryflows, each a test."""
