"""A state machine as a graph to be drawn: its states, what leads from one to another, and what an agent did in it.

Pure. `workflows.draw` writes it as Mermaid or SVG.
"""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workflows.machines import Machine, Scope, State
from workflows.trace import Visit

SERVICES = {
    "lambda": "Lambda",
    "aws-sdk:dynamodb": "DynamoDB",
    "aws-sdk:bedrockruntime": "Bedrock",
    "aws-sdk:sfn": "Step Functions",
    "events": "EventBridge",
    "sns": "SNS",
}
"""How the picture calls a service; any other by its own name."""
_OPERATORS = {"Equals": "=", "GreaterThanEquals": "≥", "GreaterThan": ">", "LessThanEquals": "≤", "LessThan": "<"}
_OPERATORS |= {"Matches": "like", "IsPresent": "is there", "IsString": "is a text", "IsNumeric": "is a number"}
_TYPES = ("String", "Numeric", "Boolean", "Timestamp")
LABEL_WIDTH, LABEL_LINES = 24, 3
"""How much a label says; the rest is in the definition."""


@dataclass(frozen=True)
class Node:
    """A state as it is drawn."""

    name: str
    kind: str
    """Its type; `Folded` for what stands for several states."""
    about: str = ""
    """The second line: what a Task calls."""
    apart: bool = False
    """Only failures lead here, or it leads only to a failure."""
    times: int = 0
    """How often it was visited."""
    error: str = ""
    """The last error in it."""
    failed: bool = False
    """That error was not overcome by a retry."""


@dataclass(frozen=True)
class Edge:
    """What leads from one state to another."""

    source: str
    target: str
    label: str = ""
    caught: bool = False
    """By a Catch."""
    times: int = 0


@dataclass(frozen=True)
class Box:
    """States that belong together: those of a machine, or those inside a Map or a branch of a Parallel.

    A node whose name is that of a box in `boxes` is drawn as that box. A branch of a Parallel has a title like
    `Both[0]`, and stands beside its siblings in the box `Both`.
    """

    title: str
    start: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    boxes: "tuple[Box, ...]" = ()
    walked: bool = False
    """Somebody's way through it is shown: what was not visited steps back."""

    @property
    def inner(self) -> "dict[str, list[Box]]":
        """The boxes inside, by the state that they are the inside of."""
        found: dict[str, list[Box]] = {}
        for box in self.boxes:
            found.setdefault(box.title.partition("[")[0], []).append(box)
        return found


def graph(machine: Machine) -> Box:
    """A machine as it is defined."""
    scopes = {scope.path: scope for scope in machine.scopes()}
    return replace(_box(scopes[""], scopes), title=machine.name)


def folded(box: Box) -> Box:
    """The graph without what a failure leads to: its states that stand apart are one node, and Catch is not shown."""
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
    """The graph with what executions of the machine visited in it; where failures lead, only what was visited."""
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
    """The states that only a Catch leads to, and those from which every way ends in a Fail."""
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
    """One edge for all that lead alike from one state to another."""
    labels: dict[tuple[str, str, bool], list[str]] = {}
    for edge in edges:
        labels.setdefault((edge.source, edge.target, edge.caught), []).append(edge.label)
    for (source, target, caught), texts in labels.items():
        if caught:
            yield Edge(source, target, "" if "" in texts else "\n".join(dict.fromkeys(texts)), caught)
        else:
            yield Edge(source, target, "\n".join(map(_short, _together(texts))))


def _condition(rule: dict[str, Any]) -> str:
    """A condition in a few words; of a path, its last part."""
    if "Not" in rule:
        text = _condition(rule["Not"])
        return text.replace(" = ", " ≠ ") if " = " in text and " and " not in text else f"not {text}"
    if "Or" in rule:
        return _or([_condition(part) for part in rule["Or"]])
    if "And" in rule:
        # That something is there, or is a text, goes without saying if more is asked of it.
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
    """Alternatives; what several begin with is said once: `action = COMPLETE or ASK_USER`."""
    start = texts[0].rpartition(" ")[0]
    if all(text.rpartition(" ")[0] == start for text in texts):
        return f"{start} {' or '.join(text.rpartition(' ')[2] for text in texts)}"
    return " or ".join(texts)


def _together(texts: Iterable[str]) -> list[str]:
    """Conditions of which any will do; those that compare the same thing are one: `action = PLAN or REPLAN`."""
    values: dict[str, dict[str, None]] = {}
    for text in texts:
        simple = text.count(" = ") == 1 and " and " not in text
        thing, equals, value = text.partition(" = ") if simple else (text, "", "")
        values.setdefault(thing + equals, {})[value] = None
    return [thing + " or ".join(each) for thing, each in values.items()]


def _last(path: str) -> str:
    """The last part of a path that is not a type of DynamoDB's."""
    parts = [part for part in path.removeprefix("$").split(".") if part not in ("", "S", "N", "$")]
    return parts[-1] if parts else path


def _short(text: str) -> str:
    return textwrap.fill(text, LABEL_WIDTH, max_lines=LABEL_LINES, placeholder=" …", break_long_words=False)


def _edges(box: Box) -> Iterator[Edge]:
    yield from box.edges
    for inner in box.boxes:
        yield from _edges(inner)


def _steps(visits: Sequence[Visit]) -> Iterator[tuple[str, str]]:
    """Which state came after which, each iteration of a Map by itself."""
    before: dict[int | None, str] = {}
    for visit in visits:
        if visit.iteration in before:
            yield before[visit.iteration], visit.state
        before[visit.iteration] = visit.state
