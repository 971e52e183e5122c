"""The shop's pages."""

from django.contrib import admin
from django.urls import include, path

from orders import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("flows/", include("celeryflows.contrib.django.urls")),
    path("orders/", views.place_order),
    path("orders/<int:order_id>/cancel", views.cancel_order),
    path("webhooks/payments", views.payment_received),
]
