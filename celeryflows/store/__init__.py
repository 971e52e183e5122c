"""The only room that speaks SQL. It remembers and compares; it decides nothing."""
