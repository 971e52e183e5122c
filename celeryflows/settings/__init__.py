"""Settings of the doors and of what is told to people: read once, checked, secrets hashed or never shown."""
