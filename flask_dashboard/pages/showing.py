"""How a page is answered: whole, or its live part alone with a tag that tells whether anything changed."""

from typing import Any

from flask import Response, make_response, render_template, request

LIVE = "live"


def show(template: str, **shown: Any) -> Response:
    """A page, or with `?part=live` its live part: 304 while that is as the reader has it."""
    part = request.args.get("part") == LIVE
    response = make_response(render_template(template, layout=f"flows/{'part' if part else 'page'}.html", **shown))
    if part:
        response.add_etag()
        response.make_conditional(request)
    return response
