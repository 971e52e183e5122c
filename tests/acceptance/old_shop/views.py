"""Where its tasks are called."""

from datetime import UTC, datetime

from celery import chain, chord, group

from old_shop.tasks import charge, geocode, pack, send_mail, translate, weigh


def checkout(order):
    send_mail.apply_async((order["email"],), countdown=86400)
    send_mail.s(order["email"], subject="late").set(eta=datetime(2027, 1, 1, tzinfo=UTC)).delay()
    app_task = charge
    app_task.apply_async((order["id"],), countdown=None)
    return chain(charge.s(order["id"]), send_mail.si(order["email"])).delay()


def pack_order(order):
    return chord([weigh.s(item) for item in order["items"]])(pack.s())


def translate_all(texts):
    (group(translate.s(text) for text in texts) | pack.s()).apply_async()


def locate(address):
    return (geocode.s(address) | translate.s())()


def locate_in(address, country):
    return chain(geocode.s(f"{address}, {country}"), translate.s())()


def after(first):
    return chain(first, pack.s())()
