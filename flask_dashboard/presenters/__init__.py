"""From views to what a page shows: text, moments, values and shapes. No question to the console."""
