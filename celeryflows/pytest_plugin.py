"""The pytest plugin: the fixture `flows_tester`."""
