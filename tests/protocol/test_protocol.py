"""The sentences of `invariants.py` hold in every world, and the model finds the violations that it must find."""

import copy
from dataclasses import replace

import pytest

from tests.asl.support import MACHINES, ROOT
from tests.protocol import invariants
from tests.protocol.__main__ import told
from tests.protocol.explore import Explored, explore
from tests.protocol.invariants import ENDED
from tests.protocol.missed import CAUGHT, CAUGHT_DEEPER
from tests.protocol.mutations import Found, expected, mutations, search
from tests.protocol.scenarios import SCENARIOS, Scenario
from tests.protocol.steps import Steps
from turnstile_cli.machines.definition import Machine

pytestmark = pytest.mark.xdist_group("protocol")
NOT_FINISHED = "NOT #status IN (:completed, :failed, :cancelled)"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_world(scenario: Scenario) -> None:
    steps = Steps(scenario)
    found = explore(steps)
    if found.broken:
        pytest.fail("\n".join(told(found)), pytrace=False)
    names = CAUGHT.get(scenario.name, set())
    taken_out = [mutation for mutation in mutations() if mutation.name in names]
    assert {each.name for each in taken_out if search(steps, found, each) is Found.BROKEN} == names


def test_the_purpose_of_every_condition_is_known() -> None:
    deeper = {name for names in CAUGHT_DEEPER.values() for name in names}
    names = [mutation.name for mutation in mutations()]
    assert len(set(names)) == len(names)
    assert expected().keys() | deeper == set(names)
    assert not expected().keys() & deeper


def test_without_its_guards_a_finished_agent_moves_again() -> None:
    found = _without_finality(replace(_scenario("the operator decides"), operator=("ABORT",)))
    assert [sentence.startswith(ENDED) for sentence in found.broken] == [True]
    assert "recovery 1: the operator says ABORT" in "\n".join(found.way)
    assert found.way[-1].startswith("recovery") and found.way[-1].endswith(": TakeOver")


def test_without_its_guards_it_moves_again_without_an_operator() -> None:
    found = _without_finality(_scenario("the watch looks"))
    assert [sentence.startswith(ENDED) for sentence in found.broken] == [True]
    assert not [step for step in found.way if "operator" in step]


def test_the_page_has_every_sentence() -> None:
    page = " ".join((ROOT / "docs" / "protocol.md").read_text("utf-8").split())
    texts = [value for name, value in vars(invariants).items() if name.isupper() and isinstance(value, str)]
    sentences = [value for value in texts if value.endswith(".")]
    assert len(sentences) == 12
    assert [sentence for sentence in sentences if f"- {sentence}" not in page] == []


def _scenario(name: str) -> Scenario:
    return next(each for each in SCENARIOS if each.name == name)


def _without_finality(scenario: Scenario) -> Explored:
    """Explore the machines without two guards: RouteAgent asks for no status, and TakeOver allows the three ends."""
    definition = copy.deepcopy(MACHINES["agent_recovery"].definition)
    rules = definition["States"]["RouteAgent"]["Choices"]
    rule = next(rule for rule in rules if rule["Next"] == "KeepError")
    rule["And"] = [each for each in rule["And"] if "Or" not in each]
    parameters = definition["States"]["TakeOver"]["Parameters"]
    assert NOT_FINISHED in parameters["ConditionExpression"]
    parameters["ConditionExpression"] = parameters["ConditionExpression"].replace(f" AND {NOT_FINISHED}", "")
    machines = {**MACHINES, "agent_recovery": Machine("agent_recovery", definition)}
    return explore(Steps(scenario, machines))
