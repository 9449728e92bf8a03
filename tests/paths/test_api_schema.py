"""docs/openapi.json holds: what it calls valid is taken, what it does not is refused, and every answer is in its shape.

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

from agent.record import Status
from tests.paths.test_api import Door, new
from tests.world import World, scenario

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
    """The document, with these parameters in every request."""
    config = {
        "parameters": parameters,
        # A query may say more than anybody reads.
        "generation": {"allow-extra-parameters": False},
        # A key that was used for something else looks like a good one.
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "422"]}},
    }
    return schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig.from_dict(config))


anybody = load()
somebody = load(agentId=FINISHED).include(path_regex="agentId", method="GET")


def check(case: Any, world: World) -> None:
    """Sends a request and compares the answer with the document."""
    if isinstance(case.body, dict) and "prompt" in case.body:
        # No agent shall start, for a model that knows nothing of what it is asked.
        case.body["agent"] = "nobody"
    if isinstance(case.query, dict):
        case.query.pop("nextToken", None)  # nobody can guess one
    # The embedded engine does not verify a signature; that one must be there, test_api.py shows.
    case.call_and_validate(base_url=Door.of(world).url, headers=SIGNED, excluded_checks=[ignored_auth])


@anybody.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_the_document_holds(case: Any, shared_world: World) -> None:
    check(case, shared_world)


@pytest.fixture(scope="module")
def finished(shared_world: World) -> World:
    """There is an agent of this name."""
    if shared_world.stack.item(FINISHED, "STATE") is None:
        shared_world.play(scenario("straight_booking"), FINISHED)
        shared_world.settle(FINISHED, Status.COMPLETED)
    return shared_world


@somebody.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_the_document_holds_for_an_agent_that_is_there(case: Any, finished: World) -> None:
    check(case, finished)
