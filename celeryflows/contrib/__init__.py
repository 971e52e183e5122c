"""What celeryflows has for the web frameworks that an app may live in."""
