"""The machines and template.yaml match: every file is deployed, and every `${…}` is filled."""

from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from tests.asl import template
from tests.asl.support import MACHINES, ROOT, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_cli.machines.definition import SUBSTITUTION, Machine


def machines_are_deployed(machine: Machine) -> Iterator[str]:
    if not template.state_machine(machine.name):
        yield problem(machine, None, "add a state machine with this DefinitionUri to template.yaml")


def substitutions_are_filled(machine: Machine) -> Iterator[str]:
    filled = template.substitutions(machine.name).keys()
    for name in sorted(machine.substitutions() - filled):
        yield problem(machine, None, f"fill ${{{name}}} in its DefinitionSubstitutions in template.yaml")
    for name in sorted(filled - machine.substitutions()):
        yield problem(
            machine, None, f"take {name} out of its DefinitionSubstitutions in template.yaml: nothing uses it"
        )


@holds(machines_are_deployed, substitutions_are_filled)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("name", MACHINES)
def test_a_substitution_is_a_whole_quoted_string(name: str) -> None:
    for number, line in enumerate((ROOT / f"asl/{name}.asl.yaml").read_text().splitlines(), 1):
        for found in SUBSTITUTION.finditer(line):
            quoted = f'"{found[0]}"'
            assert quoted in line, f"asl/{name}.asl.yaml:{number}: write {quoted}, alone in its quotes"


def test_every_definition_of_the_template_exists() -> None:
    assert template.definition_uris().items()
    for logical_id, uri in template.definition_uris().items():
        assert (ROOT / uri).is_file(), f"template.yaml: {logical_id}: there is no file {uri}"


def test_a_machine_that_is_not_deployed_is_noticed() -> None:
    assert list(machines_are_deployed(Machine("agent_nowhere", {})))


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_logs_at_the_level_of_its_parameter(name: str) -> None:
    machine = template.state_machine(name)
    level = "PublishLogLevel" if machine.get("Type") == "EXPRESS" else "MachineLogLevel"
    logged = (machine["Logging"]["Level"], machine["Logging"]["IncludeExecutionData"])
    assert logged == ({"Ref": level}, {"Ref": "MachineLogData"})


def test_the_outbox_pipe_is_created_last_and_its_role_early() -> None:
    roles = template.ids_of_type("AWS::IAM::Role") - {"OutboxPipeRole"}
    machines = template.ids_of_type("AWS::Serverless::StateMachine")
    slow = roles | machines | template.ids_of_type("AWS::CloudWatch::CompositeAlarm") | {"ApiStage"}
    assert not slow & template.created_before("OutboxPipeRole")
    assert not slow - template.created_before("OutboxPipe")


@pytest.mark.parametrize(
    ("output", "group"), [("ConsoleMachineLogs", "MachineLogs"), ("ConsoleFunctionLogs", "FunctionLogs")]
)
def test_a_link_to_logs_leads_to_their_group(output: str, group: str) -> None:
    """Check the path: in the console's links `$25` stands for `%`, and the name is quoted twice."""
    quoted = template.output(output)["Fn::Sub"][0].rpartition("/")[2]
    name = template.properties(group)["LogGroupName"]["Fn::Sub"]
    assert unquote(unquote(quoted.replace("$25", "%25"))) == name


@catches(
    Broken(
        substitutions_are_filled,
        "agent_turn",
        "",
        lambda m: m["States"]["LoadTurn"]["Parameters"].update(FunctionName="${LoadTurnName}"),
    ),
    Broken(
        substitutions_are_filled,
        "agent_turn",
        "",
        lambda m: m["States"]["LoadTurn"]["Parameters"].pop("FunctionName"),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
