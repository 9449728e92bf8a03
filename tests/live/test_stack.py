"""The stack for tests on AWS, on the embedded engine: it differs from template.yaml only by the model, and it plays."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.limits import within_limits
from tests.live.stack import CONVERSE, MODEL, OUTPUT, ROOT, write_stack
from tests.paths.test_scenarios import test_scenario as check_scenario
from tests.world import World
from tests.world import scenario as named
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.faults import Faults
from turnstile_cli.engines.template import load_template
from turnstile_cli.machines.definition import load_machine
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.sample import load_sample

pytestmark = pytest.mark.xdist_group("live")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield the stack on the embedded engine, without any other model."""
    template = write_stack(tmp_path_factory.mktemp("scripted") / "stack")
    with Embedded.start(folder=tmp_path_factory.mktemp("engine"), wait_scale=0) as engine:
        outputs = engine.deploy(template)
        assert outputs[OUTPUT]
        stack = Stack.embedded(engine)
        load_sample().seed(stack)
        with within_limits(stack.stepfunctions):
            yield World(stack, Faults(tmp_path_factory.mktemp("none")), engine.client)


@pytest.mark.parametrize("name", ["model_throttled", "two_tools_at_once", "no_seats"])
def test_it_plays_scenarios_and_their_faults(world: World, name: str) -> None:
    check_scenario(world, named(name))


def test_only_the_function_that_answers_for_the_model_differs(tmp_path: Path) -> None:
    ours = load_template(ROOT / "template.yaml")
    written: dict[str, Any] = json.loads(write_stack(tmp_path / "stack").read_text("utf-8"))
    assert written["Outputs"].pop(OUTPUT)
    assert written["Resources"].pop(MODEL)
    code = [template["Globals"]["Function"].pop("CodeUri") for template in (written, ours)]
    assert Path(code[0]) == ROOT / code[1]
    asking = 0
    for name, resource in written["Resources"].items():
        if resource["Type"] == "AWS::Serverless::StateMachine":
            theirs, own = resource["Properties"], ours["Resources"][name]["Properties"]
            source = ROOT / own.pop("DefinitionUri")
            definition = load_machine(source).definition
            asking += theirs.get("DefinitionSubstitutions", {}).pop(OUTPUT, None) is not None
            file = Path(theirs.pop("DefinitionUri"))
            text = file.read_text("utf-8")
            if file != source:
                assert json.loads(text.replace(f"${{{OUTPUT}}}", CONVERSE)) == definition
    assert asking >= 1
    assert written == json.loads(json.dumps(ours, default=str))
