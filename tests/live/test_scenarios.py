"""Every scenario on AWS: the same states, the same record, the same ledger as on the embedded engine.

The scenarios run one after the other: the scripted model counts its replies in one process.
"""

import pytest

from tests.live.conftest import LiveWorld
from tests.paths.test_scenarios import test_scenario as check_scenario
from turnstile_cli.models.scenarios import Scenario, load_scenarios

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live")]


@pytest.mark.parametrize("scenario", load_scenarios(), ids=lambda scenario: scenario.name)
def test_scenario_on_aws(live_world: LiveWorld, scenario: Scenario) -> None:
    check_scenario(live_world, scenario)
