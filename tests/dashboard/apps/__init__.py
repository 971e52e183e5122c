"""Apps behind the doors of these tests."""
