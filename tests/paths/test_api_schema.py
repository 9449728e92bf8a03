"""docs/openapi.json is true: valid requests are accepted, invalid ones are refused, every answer has its shape.

Schemathesis makes the requests from the document and sends them to the running API.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.paths.test_api import Door, new
from tests.world import World, scenario
from turnstile_agents.record import Status

pytestmark = pytest.mark.xdist_group("api")

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text("utf-8"))
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/execute-api/aws4_request"}
FINISHED = new("finished")

OPERATIONS = [f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods]


def send(operation: str, world: World, **parameters: str) -> None:
    """Send the requests that Schemathesis makes for an operation, with these parameters in every request."""
    # Every process of the tests collects this module, and these imports take long.
    import schemathesis
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.config import SchemathesisConfig
    from schemathesis.pytest.lazy import get_all_tests

    config = {
        "parameters": parameters,
        # A query may have more parameters than the API reads.
        "generation": {"allow-extra-parameters": False},
        # A key that was used for another request looks valid.
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "422"]}},
    }
    bounded = settings(
        database=None,
        deadline=None,
        max_examples=5,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    method, path = operation.split()
    schema = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig.from_dict(config))
    [made] = get_all_tests(
        schema=schema.include(path=path, method=method),
        test_func=lambda case: check(case, world),
        settings=bounded,
        given_kwargs={},
    )
    _, test = made.ok()  # type: ignore[union-attr]
    test()


def check(case: Any, world: World) -> None:
    """Send a request and compare the answer with the document."""
    from schemathesis.specs.openapi.checks import ignored_auth

    if isinstance(case.body, dict) and "prompt" in case.body:
        # No agent starts here: the scripted model does not know these prompts.
        case.body["agent"] = "unknown"
    if isinstance(case.query, dict):
        case.query.pop("nextToken", None)  # a valid token cannot be guessed
    # The embedded engine does not verify a signature; test_api.py shows that it must be present.
    case.call_and_validate(base_url=Door.of(world).url, headers=SIGNED, excluded_checks=[ignored_auth])


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_the_document_holds(operation: str, shared_world: World) -> None:
    send(operation, shared_world)


@pytest.fixture(scope="module")
def finished(shared_world: World) -> World:
    """Return a world with a finished agent of this name."""
    if shared_world.item(FINISHED, "STATE") is None:
        shared_world.play(scenario("straight_booking"), FINISHED)
        shared_world.settle(FINISHED, Status.COMPLETED)
    return shared_world


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.startswith("GET") and "agentId" in each], ids=str
)
def test_the_document_holds_for_an_agent_that_is_there(operation: str, finished: World) -> None:
    send(operation, finished, agentId=FINISHED)
