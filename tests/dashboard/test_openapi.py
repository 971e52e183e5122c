"""The OpenAPI document tells the truth: of its routes, and of what they answer to anything that it allows, and not."""

import re

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from flask_dashboard import create_app
from flask_dashboard.openapi import PATHS

BOUNDED = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


# A name, a number or a condition may be refused for what no schema can say.
PICKY = ("/e/{key}", "/v1/events", "/v1/cancellations", "/v1/signals", "/v1/flows/{flow}/invoke")
KEY = {"Authorization": "Bearer a-key-of-the-settings"}


@pytest.fixture
def api(shop):
    shop._wiring.current.app.conf.flows_api_keys = ["a-key-of-the-settings"]
    shop.send("user/came", {"n": 1})
    dashboard = create_app(shop)

    def from_loopback(environ, start_response):
        return dashboard.wsgi_app({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    return schemathesis.openapi.from_wsgi("/v1/openapi.json", from_loopback, headers=KEY)


def test_the_document_tells_every_route_of_the_doors(dashboard):
    doors = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in dashboard.url_map.iter_rules()
        if rule.endpoint.startswith("flows.doors.rest_api.") and not rule.endpoint.endswith(".nothing")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    doors |= {("/e/{key}", "post"), ("/hooks/{source}", "post")}

    assert doors == {(path, method) for path, methods in PATHS.items() for method in methods}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), [(path, method) for path, methods in PATHS.items() for method in methods])
def test_every_answer_is_as_the_document_tells(api, path, method, mode):
    operation = api[path][method]
    if mode is GenerationMode.NEGATIVE and path in ("/v1/openapi.json", "/hooks/{source}"):
        pytest.skip("there is nothing to give wrong")

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        case.call_and_validate(headers=KEY, excluded_checks=[positive_data_acceptance] if path in PICKY else [])

    ask()
