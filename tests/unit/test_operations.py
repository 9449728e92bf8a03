"""docs/operations.md describes every state that fails, every error and every alarm, and no others."""

import re
from collections.abc import Iterator

from tests.asl.support import MACHINES, ROOT
from turnstile_agents import errors
from turnstile_cli.engines.template import load_template
from turnstile_cli.machines.definition import State

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines]


def told(state: State) -> Iterator[str]:
    """Yield the errors that a state names: as its own, or as the reason that it records."""
    parameters = state.fields.get("Parameters", {})
    failure = parameters.get("failure", {})
    for place in (
        state.fields.get("Error"),
        parameters.get("error"),
        isinstance(failure, dict) and failure.get("error"),
    ):
        if isinstance(place, str):
            yield place
    for handler in [*state.fields.get("Retry", []), *state.fields.get("Catch", [])]:
        yield from handler["ErrorEquals"]


def test_every_state_that_fails_is_told_of() -> None:
    failing = {
        (machine.name, state.name)
        for machine in MACHINES.values()
        for state in machine.states()
        if state.type == "Fail"
    }
    assert {(machine, state) for machine, state, *_ in rows("States that fail")} == failing


def test_every_error_is_told_of() -> None:
    names = {name for machine in MACHINES.values() for state in machine.states() for name in told(state)}
    names |= {name for name in vars(errors) if name[0].isupper()}
    # One row describes all errors of a service.
    known = {re.sub(r"\..*", ".*", name) for name in names}
    assert {row[0] for row in rows("Errors")} == known


def test_every_alarm_is_told_of() -> None:
    resources = load_template(ROOT / "template.yaml")["Resources"].items()
    alarms = {name for name, resource in resources if resource["Type"].endswith("Alarm")}
    assert {row[0] for row in rows("Alarms")} == alarms


def test_every_machine_that_fails_sets_off_an_alarm() -> None:
    resources = load_template(ROOT / "template.yaml")["Resources"]
    machines = {name for name, resource in resources.items() if resource["Type"] == "AWS::Serverless::StateMachine"}
    failing = {
        resource["Properties"]["Dimensions"][0]["Value"]["Ref"]: name
        for name, resource in resources.items()
        if resource.get("Properties", {}).get("MetricName") == "ExecutionsFailed"
    }
    assert failing.keys() == machines
    # One failure of these three is a refusal, or is mended by itself; many have a common cause.
    thresholds = {name: resources[alarm]["Properties"]["Threshold"] for name, alarm in failing.items()}
    assert {name for name, threshold in thresholds.items() if threshold > 1} == {
        "AgentStart",
        "AgentInput",
        "AgentTurn",
    }
    # A recovery or the watch mends the others. Only failures that nothing mends wake a person.
    woken_by = str(resources["AgentsAreBeingLost"]["Properties"]["AlarmRule"])
    assert {name for name in failing if failing[name] in woken_by} == {"AgentWatch", "AgentRedeliver"}
    dead_letters = {name.removesuffix("DeadLettersAlarm") for name in resources if name.endswith("DeadLettersAlarm")}
    waking = {name for name in dead_letters if f"{name}DeadLettersAlarm" in woken_by}
    assert waking == {"Request", "Input", "Notify", "Subscriber", "Redeliver"}
    assert "WorkNotBegunAlarm" in woken_by  # the pipe has stopped: the watch announces in vain


def test_the_metrics_of_the_alarms_are_written() -> None:
    """Check that each metric of our own that an alarm needs is written by the watch."""
    source = (ROOT / "functions" / "turnstile_agents" / "load_watch" / "handler.py").read_text("utf-8")
    resources = load_template(ROOT / "template.yaml")["Resources"].values()
    alarms = [each["Properties"] for each in resources if each["Type"] == "AWS::CloudWatch::Alarm"]
    needed = {alarm["MetricName"] for alarm in alarms if alarm["Namespace"] == "Turnstile"}
    assert needed
    assert needed <= set(re.findall(r'add_metric\("(\w+)"', source))


def test_every_row_says_what_to_do() -> None:
    widths = {"States that fail": 4, "Errors": 4, "Alarms": 3}
    for title, width in widths.items():
        assert [row for row in rows(title) if len(row) != width or not all(row)] == []


def test_what_the_page_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
