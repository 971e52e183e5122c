"""The rules of limits: what was declared and what the store saw give a verdict. Pure."""
