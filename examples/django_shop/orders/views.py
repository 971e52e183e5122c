"""The shop's pages: what they send belongs to their transaction."""

import json

from django.db import transaction
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from celeryflows import InvalidEvent, StoreUnavailable
from orders.flows import fulfil
from orders.models import Order, Stock
from shop.celery import flows


@csrf_exempt
@require_POST
def place_order(request):
    """Write the order and start its run: both are committed, or neither is."""
    given = json.loads(request.body)
    with transaction.atomic():
        order = Order.objects.create(customer=given["customer"], item=given["item"])
        order.run_id = fulfil.delay(order=order.id, customer=order.customer).id
        order.save()
        if not Stock.objects.filter(item=order.item, left__gt=0).exists():
            transaction.set_rollback(True)
            return JsonResponse({"error": f"no {order.item} left"}, status=409)
    return JsonResponse({"order": order.id, "run": order.run_id}, status=201)


@csrf_exempt
@require_POST
def payment_received(request):
    """Accept what the payment provider sends. Its own id makes a repeated call harmless."""
    try:
        payment = json.loads(request.body)
        flows.send("payment/received", payment, id=payment["id"])
    except (InvalidEvent, KeyError, TypeError, ValueError) as error:
        return JsonResponse({"error": str(error)}, status=400)
    except StoreUnavailable:
        # Nothing was accepted; providers call again.
        return JsonResponse({"error": "try again later"}, status=503)
    return JsonResponse({}, status=202)


@csrf_exempt
@require_POST
async def cancel_order(request, order_id):
    """An async view sends without holding its loop."""
    await Order.objects.filter(id=order_id).aupdate(state="cancelled")
    (event_id,) = await flows.asend("order/cancelled", {"order": order_id})
    return JsonResponse({"event": event_id}, status=202)
