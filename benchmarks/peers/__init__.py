"""celeryflows beside its peers: each peer is a module with a worker and a client, run by its own Python."""
