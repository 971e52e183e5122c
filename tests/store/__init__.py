"""One conformance suite of the store, run over every database: verbs, schema, plans, costs and races."""
