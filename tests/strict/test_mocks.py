"""The mocks of every scenario: they match the answers of services and handlers, and each path runs on them alone."""

import importlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from pydantic import BaseModel, ValidationError

from tests.asl.services import called
from tests.limits import within_limits
from tests.strict.conftest import Both
from turnstile_agents.decorator import ToolHandler
from turnstile_cli.engines import strict
from turnstile_cli.engines.casing import UnknownField, to_wire
from turnstile_cli.engines.elsewhere import Registered, create, read_machines
from turnstile_cli.engines.process import HOST, free_port
from turnstile_cli.engines.template import load_template
from turnstile_cli.files import TEMPLATE
from turnstile_cli.local.mocks import MockedAnswer, MockedCase, cases, mock_config, on_mocks, run_mocked
from turnstile_cli.machines.definition import State
from turnstile_cli.models.scenarios import load_scenarios

pytestmark = pytest.mark.xdist_group("strict")

UNREACHABLE = f"http://{HOST}:9"


@dataclass(frozen=True)
class Mocked:
    """A Step Functions with mocks and no other service; `machines` are the machines of the stack."""

    client: Any
    machines: dict[str, Registered]
    cases: dict[str, list[MockedCase]]


@pytest.fixture(scope="module")
def mocked(both: Both, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mocked]:
    """Yield the mocks of every scenario, recorded on the embedded engine, on a strict engine without services."""
    world = both.embedded
    found = {each.name: list(cases(world.stack, each.name, both.play(each.name))) for each in load_scenarios()}
    folder: Path = tmp_path_factory.mktemp("mocked")
    file = folder / "MockConfigFile.json"
    file.write_text(json.dumps(mock_config(case for each in found.values() for case in each)), "utf-8")
    machines = {each.name: each for each in read_machines(both.embedded_engine)}
    port = free_port()
    with strict.serve(port, UNREACHABLE, folder, wait_scale=0, mocks=file):
        client = boto3.client(
            "stepfunctions",
            endpoint_url=f"http://{HOST}:{port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        for machine in machines.values():
            create(client, on_mocks(machine))
        with within_limits(client):
            yield Mocked(client, machines, found)


@pytest.mark.parametrize("scenario", [each.name for each in load_scenarios()])
class TestMocks:
    def test_each_path_runs_with_no_other_service(self, mocked: Mocked, scenario: str) -> None:
        found = mocked.cases[scenario]
        assert [case.machine for case in found][:2] == ["turnstile-AgentStart", "turnstile-AgentTurn"]
        for case in found:
            assert run_mocked(mocked.client, mocked.machines[case.machine].arn, case) == (case.status, case.ways)

    def test_each_mock_has_the_shape_of_the_real_answer(self, mocked: Mocked, scenario: str) -> None:
        for case in mocked.cases[scenario]:
            states = {state.name: state for state in mocked.machines[case.machine].machine.tasks()}
            for answer in case.answers:
                assert_fits(states[answer.state], answer)


def assert_fits(state: State, answer: MockedAnswer) -> None:
    """Check an answer against botocore's output shape, and a function's against the handler's own output model."""
    if answer.error:
        return
    if state.service == "lambda":
        payload = answer.result["Payload"]
        called_function = state.fields["Parameters"].get("FunctionName", "").rpartition(":")[2]
        if called_function:
            output_model(called_function).model_validate(payload)
        else:  # the data decide which tool it is
            assert any(fits(output_model(name), payload) for name in handlers() if "-tool-" in name), payload
        return
    shape = called(state).operation.output_shape
    assert shape
    try:
        to_wire(answer.result, shape)
    except UnknownField as error:
        pytest.fail(f"{state.path}: {state.service}:{state.action} answers no {error}")


def fits(model: type[BaseModel], value: Any) -> bool:
    """Return whether a value is a dump of a model."""
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


@cache
def handlers() -> dict[str, str]:
    """Return the handler of each function of the template, by the function's name."""
    functions = [
        each["Properties"]
        for each in load_template(TEMPLATE)["Resources"].values()
        if each["Type"] == "AWS::Serverless::Function"
    ]
    named = [(each["FunctionName"]["Fn::Sub"].replace("${AWS::StackName}", "turnstile"), each) for each in functions]
    return {name: each["Handler"] for name, each in named}


@cache
def output_model(function: str) -> type[BaseModel]:
    """Return the model of a function's answer: a tool's model, or the return type of its own package's function."""
    module = importlib.import_module(handlers()[function].rpartition(".")[0])
    if isinstance(module.handler, ToolHandler):
        return module.handler.output_model
    package = module.__name__.split(".")[0]
    own = [each for each in vars(module).values() if getattr(each, "__module__", "").startswith(f"{package}.")]
    answers = [inspect.signature(each).return_annotation for each in own if inspect.isfunction(each)]
    [model] = [each for each in answers if inspect.isclass(each) and issubclass(each, BaseModel)]
    return model


def test_an_answer_that_does_not_fit_is_noticed(mocked: Mocked) -> None:
    states = {state.name: state for machine in mocked.machines.values() for state in machine.machine.tasks()}
    with pytest.raises(pytest.fail.Exception, match="ClaimTurn: aws-sdk:dynamodb:updateItem answers no"):
        assert_fits(states["ClaimTurn"], MockedAnswer("ClaimTurn", {"Atributes": {}}))
    with pytest.raises(ValidationError):
        assert_fits(states["LoadTurn"], MockedAnswer("LoadTurn", {"Payload": {}}))
    with pytest.raises(AssertionError):
        assert_fits(states["CallReadTool"], MockedAnswer("CallReadTool", {"Payload": {"nothing": 1}}))
