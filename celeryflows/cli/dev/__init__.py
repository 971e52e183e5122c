"""`flows dev`: broker, worker, reload and a line for all that happens, in one command."""
