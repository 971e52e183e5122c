"""Time: what is due, missed or lost is put right, by one leader among the workers."""
