"""The apps of these tests. A worker takes its settings from the environment; a test makes the same app for itself."""
