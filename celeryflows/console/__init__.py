"""The operators' desk: what pages, terminals and scripts see and do. Frozen views over the store, no rules."""
