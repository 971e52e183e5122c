"""A shop: orders, payments by webhook, parcels. An application factory, as Flask's manual has it."""

import os

from flask import Flask

from celeryflows.contrib.flask import init_app
from shop.flows import flows
from shop.models import db
from shop.views import pages


def create_app(**config):
    """An app with its database, its Celery app and its flows. Orders and runs share one database."""
    app = Flask(__name__)
    url = os.environ.get("SHOP_DATABASE", f"sqlite:///{os.path.abspath('shop.sqlite3')}")
    app.config.from_mapping(
        SECRET_KEY=os.environ.get("SHOP_SECRET_KEY", "only for this example"),
        SQLALCHEMY_DATABASE_URI=url,
        CELERY={
            "broker_url": os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0"),
            "broker_connection_retry_on_startup": True,
            "flows_store_url": url,
        },
    )
    app.config.update(config)
    db.init_app(app)
    init_app(app, flows, dashboard="/flows")
    app.register_blueprint(pages)
    app.cli.command("init-db")(create_tables)
    return app


def create_tables():
    """Make the shop's own tables."""
    db.create_all()
