"""Where the dashboard is mounted: every page below it."""

from django.urls import re_path

from celeryflows.contrib.django.mount import dashboard

app_name = "celeryflows"
urlpatterns = [re_path(r"^(?P<path>.*)$", dashboard, name="dashboard")]
