"""A state machine as a graph for drawing: its states, the edges between them, and an agent's way through it.

Pure. `turnstile_cli.machines.draw` writes it as Mermaid or SVG.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnstile_cli.machines.definition import Machine, Scope, State
from turnstile_cli.machines.trace import Visit

SERVICES = {
    "lambda": "Lambda",
    "aws-sdk:dynamodb": "DynamoDB",
    "aws-sdk:bedrockruntime": "Bedrock",
    "aws-sdk:sfn": "Step Functions",
    "events": "EventBridge",
    "sns": "SNS",
}
"""The names of services in the picture; a service that is not listed keeps its own name."""
_OPERATORS = {"Equals": "=", "GreaterThanEquals": "≥", "GreaterThan": ">", "LessThanEquals": "≤", "LessThan": "<"}
_OPERATORS |= {"Matches": "like", "IsPresent": "is there", "IsString": "is a text", "IsNumeric": "is a number"}
_TYPES = ("String", "Numeric", "Boolean", "Timestamp")
LABEL_WIDTH, LABEL_LINES = 24, 3
"""A label's characters per line, and its lines; the definition has the rest."""


@dataclass(frozen=True)
class Node:
    """A state in the picture."""

    name: str
    kind: str
    """Its type; `Folded` for a node that stands for several states."""
    about: str = ""
    """The second line: the call of a Task."""
    apart: bool = False
    """Only failures lead here, or every way from here ends in a failure."""
    times: int = 0
    """How often it was visited."""
    error: str = ""
    """The last error in it."""
    failed: bool = False
    """No retry overcame that error."""


@dataclass(frozen=True)
class Edge:
    """A transition from one state to another."""

    source: str
    target: str
    label: str = ""
    caught: bool = False
    """The transition is a Catch's."""
    times: int = 0


@dataclass(frozen=True)
class Box:
    """States that belong together: the states of a machine, of a Map's inside, or of a branch of a Parallel.

    A node with the name of a box in `boxes` is drawn as that box. A branch of a Parallel has a title like `Both[0]`,
    and stands beside its siblings in the box `Both`.
    """

    title: str
    start: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    boxes: "tuple[Box, ...]" = ()
    walked: bool = False
    """The picture shows a way through the box: states that were not visited are pale."""

    @property
    def inner(self) -> "dict[str, list[Box]]":
        """The boxes inside this box; the key is the state that contains them."""
        found: dict[str, list[Box]] = {}
        for box in self.boxes:
            found.setdefault(box.title.partition("[")[0], []).append(box)
        return found


def graph(machine: Machine) -> Box:
    """Return the graph of a machine's definition."""
    scopes = {scope.path: scope for scope in machine.scopes()}
    return replace(_box(scopes[""], scopes), title=machine.name)


def folded(box: Box) -> Box:
    """Return the graph without the ways of failures: all states with `apart` become one node, and no Catch is shown."""
    name = "A failure"
    apart = {node.name for node in box.nodes if node.apart}
    edges: dict[Edge, None] = {}
    for edge in box.edges:
        if edge.source not in apart and not edge.caught:
            edges[replace(edge, target=name, label="") if edge.target in apart else edge] = None
    told = any(edge.target == name for edge in edges)
    count = "1 state" if len(apart) == 1 else f"{len(apart)} states"
    nodes = [node for node in box.nodes if node.name not in apart]
    nodes += [Node(name, "Folded", count, apart=True)] if told else []
    return replace(box, nodes=tuple(nodes), edges=tuple(edges), boxes=tuple(folded(inner) for inner in box.boxes))


def walked(box: Box, runs: Iterable[Sequence[Visit]]) -> Box:
    """Return the graph with the visits of some executions. A state with `apart` is left out unless it was visited."""
    found = [list(run) for run in runs]
    visits = [visit for run in found for visit in run]
    states = Counter(visit.state for visit in visits)
    steps = Counter(step for run in found for step in _steps(run))
    errors = {visit.state: visit.error for visit in visits if visit.error}
    caught = {(edge.source, edge.target) for edge in _edges(box) if edge.caught}
    failed = {step[0] for step in steps if step in caught and step[0] in errors}
    failed |= {visit.state for visit in visits if visit.error and visit.seconds is None}

    def mark(part: Box) -> Box:
        nodes = tuple(
            replace(node, times=states[node.name], error=errors.get(node.name, ""), failed=node.name in failed)
            for node in part.nodes
            if states[node.name] or not node.apart
        )
        names = {node.name for node in nodes}
        edges = tuple(
            replace(edge, times=0 if edge.caught and edge.source not in errors else steps[edge.source, edge.target])
            for edge in part.edges
            if {edge.source, edge.target} <= names
        )
        return replace(part, nodes=nodes, edges=edges, boxes=tuple(map(mark, part.boxes)), walked=True)

    return mark(box)


def _box(scope: Scope, scopes: dict[str, Scope]) -> Box:
    apart = _apart(scope)
    nodes = tuple(Node(name, state.type, _about(state), name in apart) for name, state in scope.states.items())
    inner = tuple(
        _box(other, scopes)
        for path, other in scopes.items()
        if path and path.partition("[")[0].rpartition("/")[0] == scope.path.partition("[")[0] and path != scope.path
    )
    edges = tuple(edge for state in scope.states.values() for edge in _merged(_leads(state)))
    return Box(scope.path.rpartition("/")[2], scope.start, nodes, edges, inner)


def _apart(scope: Scope) -> set[str]:
    """Return the states that only a Catch leads to, and the states from which every way ends in a Fail."""
    onward = {name: {edge.target for edge in _leads(state) if not edge.caught} for name, state in scope.states.items()}
    well, waiting = {scope.start}, [scope.start]
    while waiting:
        fresh = onward[waiting.pop()] - well
        well |= fresh
        waiting += fresh
    hopeful = {name for name, state in scope.states.items() if state.ends and state.type != "Fail"}
    while more := {name for name in onward if name not in hopeful and onward[name] & hopeful}:
        hopeful |= more
    return scope.states.keys() - (well & hopeful)


def _about(state: State) -> str:
    if state.type != "Task":
        return ""
    if state.service == "lambda":
        return "Lambda"
    callback = ", waits for an answer" if state.waits_for_token else ""
    return f"{SERVICES.get(state.service, state.service)} {state.action}{callback}"


def _leads(state: State) -> Iterator[Edge]:
    fields = state.fields
    if "Next" in fields:
        yield Edge(state.name, fields["Next"])
    for rule in fields.get("Choices", []):
        yield Edge(state.name, rule["Next"], _condition(rule))
    if "Default" in fields:
        yield Edge(state.name, fields["Default"], "otherwise")
    for catcher in fields.get("Catch", []):
        errors = [name.removesuffix("Exception") for name in catcher["ErrorEquals"] if name != "States.ALL"]
        yield Edge(state.name, catcher["Next"], ", ".join(errors), caught=True)


def _merged(edges: Iterable[Edge]) -> Iterator[Edge]:
    """Merge the edges between the same two states: one for the Catches, one for the rest."""
    labels: dict[tuple[str, str, bool], list[str]] = {}
    for edge in edges:
        labels.setdefault((edge.source, edge.target, edge.caught), []).append(edge.label)
    for (source, target, caught), texts in labels.items():
        if caught:
            yield Edge(source, target, "" if "" in texts else "\n".join(dict.fromkeys(texts)), caught)
        else:
            yield Edge(source, target, "\n".join(map(_short, _together(texts))))


def _condition(rule: dict[str, Any]) -> str:
    """Write a condition in a few words; a path is shortened to its last part."""
    if "Not" in rule:
        text = _condition(rule["Not"])
        return text.replace(" = ", " ≠ ") if " = " in text and " and " not in text else f"not {text}"
    if "Or" in rule:
        return _or([_condition(part) for part in rule["Or"]])
    if "And" in rule:
        # Leave out a check that a value is present, or is a text, if another condition compares the value.
        telling = [part for part in rule["And"] if not _checks_presence(part)]
        text = " and ".join(map(_condition, telling or rule["And"][:1]))
        return text if len(telling) == len(rule["And"]) else f"{text} …"
    name = _last(rule["Variable"])
    (operator, value), *_ = [(key, value) for key, value in rule.items() if key not in ("Variable", "Next", "Comment")]
    if operator.startswith("Is"):
        return f"{'' if value else 'not '}{name} {_OPERATORS.get(operator, operator)}"
    bare = operator.removesuffix("Path")
    for type_ in _TYPES:
        bare = bare.removeprefix(type_)
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {_OPERATORS.get(bare, bare)} {_last(value) if operator.endswith('Path') else _bare(value)}"


def _bare(value: Any) -> str:
    return str(value).removesuffix("Exception") or "nothing"


def _checks_presence(rule: dict[str, Any]) -> bool:
    return any(key.startswith("Is") for key in rule.get("Not", rule))


def _or(texts: list[str]) -> str:
    """Join alternatives; a common beginning is written once: `action = COMPLETE or ASK_USER`."""
    start = texts[0].rpartition(" ")[0]
    if all(text.rpartition(" ")[0] == start for text in texts):
        return f"{start} {' or '.join(text.rpartition(' ')[2] for text in texts)}"
    return " or ".join(texts)


def _together(texts: Iterable[str]) -> list[str]:
    """Join alternative conditions that compare the same value into one: `action = PLAN or REPLAN`."""
    values: dict[str, dict[str, None]] = {}
    for text in texts:
        simple = text.count(" = ") == 1 and " and " not in text
        thing, equals, value = text.partition(" = ") if simple else (text, "", "")
        values.setdefault(thing + equals, {})[value] = None
    return [thing + " or ".join(each) for thing, each in values.items()]


def _last(path: str) -> str:
    """Return the last part of a path, without DynamoDB's types."""
    parts = [part for part in path.removeprefix("$").split(".") if part not in ("", "S", "N", "$")]
    return parts[-1] if parts else path


def _short(text: str) -> str:
    return textwrap.fill(text, LABEL_WIDTH, max_lines=LABEL_LINES, placeholder=" …", break_long_words=False)


def _edges(box: Box) -> Iterator[Edge]:
    yield from box.edges
    for inner in box.boxes:
        yield from _edges(inner)


def _steps(visits: Sequence[Visit]) -> Iterator[tuple[str, str]]:
    """Yield each pair of consecutive states, for each iteration of a Map separately."""
    before: dict[int | None, str] = {}
    for visit in visits:
        if visit.iteration in before:
            yield before[visit.iteration], visit.state
        before[visit.iteration] = visit.state
