"""celeryflows in a Django project: `"celeryflows.contrib.django"` in INSTALLED_APPS."""
