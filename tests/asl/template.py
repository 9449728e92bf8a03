"""The parts of template.yaml that describe a machine."""

from functools import cache
from typing import Any

from ministack.services import eventbridge

from tests.asl.support import ROOT
from turnstile_cli.engines.template import load_template, references


@cache
def _template() -> dict[str, Any]:
    return load_template(ROOT / "template.yaml")


def definition_uris() -> dict[str, str]:
    """Return the definition file of each state machine, by logical id."""
    return {name: resource["DefinitionUri"] for name, resource in _of_type("AWS::Serverless::StateMachine").items()}


def state_machine(name: str) -> dict[str, Any]:
    """Return the properties of the machine whose definition is `asl/<name>.asl.yaml`; empty if there is none."""
    uri = f"asl/{name}.asl.yaml"
    found = [entry for entry in _of_type("AWS::Serverless::StateMachine").values() if entry["DefinitionUri"] == uri]
    return found[0] if found else {}


def substitutions(name: str) -> dict[str, Any]:
    """Return the DefinitionSubstitutions of a machine."""
    filled: dict[str, Any] = state_machine(name).get("DefinitionSubstitutions", {})
    return filled


def function_timeout(name: str, substitution: str) -> int | None:
    """Return the timeout in seconds of the function behind a machine's `${substitution}`; None if it is no function."""
    value = substitutions(name).get(substitution, {})
    target = value.get("Fn::GetAtt", [""]) if isinstance(value, dict) else [""]
    logical_id = (target if isinstance(target, list) else target.split("."))[0]
    function = _of_type("AWS::Serverless::Function").get(logical_id)
    if function is None:
        return None
    timeout = function.get("Timeout", _template().get("Globals", {}).get("Function", {}).get("Timeout", 3))
    return int(timeout)


def statements(name: str) -> list[dict[str, Any]]:
    """Return the statements of the policy in a machine's role, without those for logs and traces."""
    role = _of_type("AWS::IAM::Role")[state_machine(name)["Role"]["Fn::GetAtt"][0]]
    return [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]


def event_patterns(name: str) -> list[dict[str, Any]]:
    """Return the patterns of the rules that start a machine."""
    events = state_machine(name).get("Events", {}).values()
    return [event["Properties"]["Pattern"] for event in events if event["Type"] == "EventBridgeRule"]


def bus_patterns() -> dict[str, dict[str, Any]]:
    """Return the pattern of each rule on the bus of agents, by the rule's logical id."""
    rules = {
        f"{machine}{name}": event["Properties"]
        for machine, properties in _of_type("AWS::Serverless::StateMachine").items()
        for name, event in properties.get("Events", {}).items()
        if event["Type"] == "EventBridgeRule"
    }
    rules |= _of_type("AWS::Events::Rule")
    return {name: rule.get("Pattern") or rule["EventPattern"] for name, rule in rules.items() if "EventBusName" in rule}


def pipe_filters() -> list[str]:
    """Return the patterns of the outbox pipe's filter, as JSON."""
    [pipe] = _of_type("AWS::Pipes::Pipe").values()
    return [each["Pattern"] for each in pipe["SourceParameters"]["FilterCriteria"]["Filters"]]


def pipe_takes(filters: list[str], image: dict[str, Any]) -> bool:
    """Return whether one of a pipe's filters lets an item of the table's stream through."""
    return any(matches(each, {"dynamodb": {"NewImage": image}}) for each in filters)


def matches(pattern: str, value: Any) -> bool:
    """Return whether a value matches an event pattern, which is JSON text."""
    return any(eventbridge._matches_detail(value, each) for each in eventbridge._compiled_pattern(pattern))


def is_scheduled(name: str) -> bool:
    """Return whether a schedule starts a machine."""
    return any(event["Type"] == "Schedule" for event in state_machine(name).get("Events", {}).values())


def ids_of_type(kind: str) -> set[str]:
    """Return the logical ids of the resources of a type."""
    return set(_of_type(kind))


def properties(logical_id: str) -> dict[str, Any]:
    """Return the properties of a resource."""
    found: dict[str, Any] = _template()["Resources"][logical_id]["Properties"]
    return found


def output(name: str) -> Any:
    """Return the value of an output."""
    return _template()["Outputs"][name]["Value"]


def created_before(logical_id: str) -> set[str]:
    """Return the resources that CloudFormation creates before this one: all that it refers to, directly or not."""
    resources = _template()["Resources"]
    before: set[str] = set()
    found = [logical_id]
    while found:
        resource = resources[found.pop()]
        depends_on = resource.get("DependsOn", [])
        names = {*references(resource), *([depends_on] if isinstance(depends_on, str) else depends_on)}
        new = (names & resources.keys()) - before
        before |= new
        found += new
    return before


def _of_type(kind: str) -> dict[str, dict[str, Any]]:
    resources = _template()["Resources"].items()
    return {name: resource.get("Properties", {}) for name, resource in resources if resource["Type"] == kind}
