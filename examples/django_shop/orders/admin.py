"""Orders in Django's admin."""

from django.contrib import admin

from celeryflows.contrib.django.links import run_link
from orders.models import Order, Stock


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """An order with its run."""

    list_display = ("id", "item", "customer", "state", "run")

    def run(self, order):
        """A link to the dashboard."""
        return run_link(order.run_id)


admin.site.register(Stock)
