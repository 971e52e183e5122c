"""What an app of plain tasks would gain, read from its tasks, its schedule and its source: `flows adopt`."""
