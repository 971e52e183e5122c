"""What the shop remembers."""

from django.db import models


class Order(models.Model):
    """An order, from the moment it is placed to its parcel."""

    customer = models.EmailField()
    item = models.CharField(max_length=100)
    state = models.CharField(max_length=20, default="placed")
    run_id = models.CharField(max_length=64, blank=True)

    def __str__(self):
        return f"{self.item} for {self.customer}"


class Stock(models.Model):
    """How much of an item is left."""

    item = models.CharField(max_length=100, unique=True)
    left = models.PositiveIntegerField()

    def __str__(self):
        return f"{self.left} x {self.item}"
