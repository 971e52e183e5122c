"""The step tools, one file each, over the journal of a turn."""
