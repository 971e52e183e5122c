"""The URLs of the tests' project."""

from django.urls import include, path

urlpatterns = [path("of/flows/", include("celeryflows.contrib.django.urls"))]
