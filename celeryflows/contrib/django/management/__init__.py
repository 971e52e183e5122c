"""`manage.py flows`."""
