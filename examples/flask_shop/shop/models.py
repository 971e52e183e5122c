"""What the shop remembers."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The shop's tables."""


db = SQLAlchemy(model_class=Base)


class Order(db.Model):
    """An order, from the moment it is placed to its parcel."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]
    state: Mapped[str] = mapped_column(default="placed")


class Stock(db.Model):
    """How much of an item is left."""

    __tablename__ = "stock"
    item: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[int]
