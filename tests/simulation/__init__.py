"""Random flows in a random world: one process plays workers, broker, clients and a failing link to the store."""
