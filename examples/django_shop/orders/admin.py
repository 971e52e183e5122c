"""Orders in Django's admin."""

from django.contrib import admin

from orders.models import Order, Stock


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """An order with its run."""

    list_display = ("id", "item", "customer", "state", "run_id")


admin.site.register(Stock)
