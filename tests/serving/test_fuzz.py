"""The OpenAPI schema, fuzzed: whatever is sent, nothing is a 500, and every answer is one that the schema knows."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from raysafe.control.keys import KeyRing, new_key
from raysafe.guards.policy import default_policy
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.gateway import Gateway
from raysafe.serving.settings import GatewaySettings
from tests.examples import examples
from tests.serving.conftest import MemoryAudit
from tests.serving.test_door import Switch
from tests.serving.test_matrix import Model

pytestmark = [pytest.mark.serve, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
KEY, SECRET = new_key("fuzz", scopes=("user", "reviewer"))


def fuzzed_app() -> Any:
    """A gateway under the default policy, less its rate limit, before a model that does everything."""
    policy = default_policy()
    guards = tuple(guard for guard in policy.guards if guard.kind != "rate")
    switch = Switch()
    switch.keys = KeyRing([KEY])
    settings_ = GatewaySettings(model="m", policy=policy.model_copy(update={"guards": guards}))
    return Gateway(settings_, Model(), ControlRoom(MemoryAudit(), switch)).app()


schema = schemathesis.openapi.from_asgi("/openapi.json", fuzzed_app())


@schema.parametrize()
@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
def test_nothing_that_is_sent_is_a_500(case: Any) -> None:
    if isinstance(case.body, dict) and "model" in case.body:
        # most of what is fuzzed lies behind the model's name
        case.body["model"] = "m"
    response = case.call(headers={"Authorization": f"Bearer {SECRET}"})
    case.validate_response(response, checks=(not_a_server_error, status_code_conformance, response_schema_conformance))
