"""No tables: what the admin lists and grants permissions for."""

from django.db import models


class Dashboard(models.Model):
    """The pages of the flows; whoever may change it may cancel, rerun and send there."""

    class Meta:
        """No table, two permissions."""

        managed = False
        app_label = "celeryflows"
        default_permissions = ("view", "change")
        verbose_name = verbose_name_plural = "dashboard"
