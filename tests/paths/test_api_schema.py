"""docs/openapi.json is true: valid requests are accepted, invalid ones are refused, every answer has its shape.

Schemathesis makes the requests from the document and sends them to the running API.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth

from tests.paths.test_api import Door, new
from tests.world import World, scenario
from turnstile_agents.record import Status

pytestmark = pytest.mark.xdist_group("api")

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text("utf-8"))
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/execute-api/aws4_request"}
FINISHED = new("finished")

bounded = settings(
    database=None,
    deadline=None,
    max_examples=5,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def load(**parameters: str) -> Any:
    """Return the document's schema, with these parameters in every request."""
    config = {
        "parameters": parameters,
        # A query may have more parameters than the API reads.
        "generation": {"allow-extra-parameters": False},
        # A key that was used for another request looks valid.
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "422"]}},
    }
    return schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig.from_dict(config))


any_agent = load()
finished_agent = load(agentId=FINISHED).include(path_regex="agentId", method="GET")


def check(case: Any, world: World) -> None:
    """Send a request and compare the answer with the document."""
    if isinstance(case.body, dict) and "prompt" in case.body:
        # No agent starts here: the scripted model does not know these prompts.
        case.body["agent"] = "unknown"
    if isinstance(case.query, dict):
        case.query.pop("nextToken", None)  # a valid token cannot be guessed
    # The embedded engine does not verify a signature; test_api.py shows that it must be present.
    case.call_and_validate(base_url=Door.of(world).url, headers=SIGNED, excluded_checks=[ignored_auth])


@any_agent.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_the_document_holds(case: Any, shared_world: World) -> None:
    check(case, shared_world)


@pytest.fixture(scope="module")
def finished(shared_world: World) -> World:
    """Return a world with a finished agent of this name."""
    if shared_world.item(FINISHED, "STATE") is None:
        shared_world.play(scenario("straight_booking"), FINISHED)
        shared_world.settle(FINISHED, Status.COMPLETED)
    return shared_world


@finished_agent.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_the_document_holds_for_an_agent_that_is_there(case: Any, finished: World) -> None:
    check(case, finished)
