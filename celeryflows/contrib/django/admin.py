"""The dashboard among the admin's pages."""

from typing import Any

from django.contrib import admin
from django.http import HttpResponseRedirect

from celeryflows.contrib.django.links import dashboard_url
from celeryflows.contrib.django.models import Dashboard


@admin.register(Dashboard)
class DashboardAdmin(admin.ModelAdmin):
    """Leads to the dashboard, where it is mounted; there is nothing to edit here."""

    def changelist_view(self, request: Any, extra_context: Any = None) -> HttpResponseRedirect:
        """The dashboard itself."""
        return HttpResponseRedirect(dashboard_url() or "..")

    def has_module_permission(self, request: Any) -> bool:
        """Shown to staff, once it is mounted."""
        return dashboard_url() is not None

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        """All staff may look."""
        return dashboard_url() is not None

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        """There is one."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """Not here."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """Not here."""
        return False
