"""An execution of a machine, from one access to the shared world to the next.

The states come from `asl/`. MiniStack's own code, which also runs in the embedded engine, evaluates paths, Parameters,
Choice rules and intrinsic functions. The walk from state to state is written here, because no engine can be stopped and
continued at every access.
"""

import json
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, NamedTuple

from ministack.services import stepfunctions

from tests.protocol.text import data, text
from tests.states.walk import missing
from turnstile_cli.machines.definition import SUBSTITUTION, Machine, State

TIME = "2026-11-24T12:00:00Z"
"""The value of every timestamp: the model has no clock."""
FILLED = {"AnyNumberOfInputs": "999999999"}
"""The substitutions of the template that are no names. A name stands for itself: `${AgentTurnArn}` is `agent_turn`."""
MAP_ITEM = "$$.Map.Item.Value"


class At(NamedTuple):
    """An execution, or one iteration of a Map in it, before a Task or a Wait."""

    path: str
    data: str
    token: str = ""
    """The task token, once the Task has handed it out and waits for the answer."""


class Over(NamedTuple):
    """An execution inside a Map: the Map's iterations in their order."""

    path: str
    data: str
    children: tuple["Position", ...]


class Pending(NamedTuple):
    """An iteration that has not begun, because the Map runs its iterations one after the other."""

    path: str
    data: str


class Ended(NamedTuple):
    """A success with its output."""

    output: str


class Failed(NamedTuple):
    """A failure: at a Fail state, or by an error that nothing catches."""

    error: str
    cause: str = ""


Position = At | Over | Pending | Ended | Failed
Route = tuple[int, ...]
"""The way to an iteration: its place in each Map around it."""


class PathMissing(Exception):
    """A path of the machine gives nothing: on AWS the execution would fail."""


class Program:
    """A machine that can be walked through. Its methods return the same object for the same arguments."""

    def __init__(self, machine: Machine) -> None:
        self.name = machine.name
        filled = SUBSTITUTION.sub(_fill, json.dumps(machine.definition))
        self.machine = Machine(machine.name, json.loads(filled))
        self.begin = cache(self._begin)
        self.enter = cache(self._enter)
        self.parameters = cache(self._parameters)
        self.succeed = cache(self._succeed)
        self.fail = cache(self._fail)

    @cached_property
    def states(self) -> dict[str, State]:
        return {state.path: state for state in self.machine.states()}

    def leaves(self, position: Position, route: Route = ()) -> Iterator[tuple[Route, At]]:
        """Yield the positions that an execution can continue from: one, or several inside a Map."""
        if isinstance(position, At):
            yield route, position
        elif isinstance(position, Over):
            for place, child in enumerate(position.children):
                yield from self.leaves(child, (*route, place))

    def replace(self, execution: str, position: Position, route: Route, new: Position) -> Position:
        """Return the position with a new one at the end of the route; leave a Map once all its iterations are over."""
        if not route:
            return new
        assert isinstance(position, Over)
        place, *rest = route
        children = list(position.children)
        children[place] = self.replace(execution, children[place], tuple(rest), new)
        return self._after_iteration(execution, position._replace(children=tuple(children)))

    # ---- The results of these methods are cached

    def _begin(self, execution: str, given: str) -> Position:
        """Start an execution with an input."""
        return self.enter(execution, self.machine.definition["StartAt"], given)

    def _enter(self, execution: str, path: str, given: str) -> Position:
        """Walk from a state to the next Task or Wait, or to the end."""
        state = self.states[path]
        fields, context = state.fields, self._context(execution)
        match state.type:
            case "Choice":
                _, target = stepfunctions._execute_choice(fields, data(given), context)
                return self.enter(execution, _sibling(path, target), given)
            case "Pass":
                inside = stepfunctions._apply_input_path(fields, data(given), context)
                made = _filled(fields.get("Parameters"), inside, context)
                result = fields.get("Result", made)
                output = stepfunctions._apply_result_path(fields, data(given), result)
                return self._next(execution, path, text(output))
            case "Succeed":
                return Ended(text(stepfunctions._apply_output_path(fields, data(given))))
            case "Fail":
                return Failed(*(self._told(fields, name, given, context) for name in ("Error", "Cause")))
            case "Map":
                return self._enter_map(execution, path, given)
            case "Wait" if "TimestampPath" not in fields:
                return self._next(execution, path, given)
            case "Task" | "Wait":
                return At(path, given)
        raise NotImplementedError(f"{self.name}: {path} is a {state.type}")

    def _parameters(self, execution: str, at: At) -> str:
        """Return the request of a Task to its service."""
        context = self._context(execution)
        return text(_filled(self.states[at.path].fields["Parameters"], data(at.data), context))

    def _succeed(self, execution: str, at: At, result: str) -> Position:
        """Continue after a Task that succeeded, or after a Wait that is over."""
        if self.states[at.path].type == "Wait":
            return self._next(execution, at.path, at.data)
        return self._next(execution, at.path, self._output(at.path, at.data, data(result)))

    def _fail(self, execution: str, path: str, given: str, error: Failed) -> Position:
        """Continue after a Task or a Map that failed in its last retry."""
        for catcher in self.states[path].fields.get("Catch", []):
            if stepfunctions._error_matches(catcher["ErrorEquals"], error.error):
                caught = {"Error": error.error, "Cause": error.cause}
                output = stepfunctions._apply_result_path_raw(catcher.get("ResultPath", "$"), data(given), caught)
                return self.enter(execution, _sibling(path, catcher["Next"]), text(output))
        return error

    # ----

    def _next(self, execution: str, path: str, output: str) -> Position:
        target = self.states[path].fields.get("Next")
        return self.enter(execution, _sibling(path, target), output) if target else Ended(output)

    def _output(self, path: str, given: str, result: Any) -> str:
        fields = self.states[path].fields
        if "ResultSelector" in fields:
            result = _filled(fields["ResultSelector"], result, {})
        output = stepfunctions._apply_result_path(fields, data(given), result)
        return text(stepfunctions._apply_output_path(fields, output))

    def _enter_map(self, execution: str, path: str, given: str) -> Position:
        fields, context = self.states[path].fields, self._context(execution)
        items = stepfunctions._resolve_path(fields.get("ItemsPath", "$"), data(given))
        inputs = []
        for item in items:
            selector = fields.get("ItemSelector")
            of_item = {**context, "Map": {"Item": {"Value": item}}}
            inputs.append(text(item if selector is None else _filled(selector, data(given), of_item)))
        start = f"{path}/{fields['ItemProcessor']['StartAt']}"
        waiting: tuple[Position, ...] = tuple(Pending(start, each) for each in inputs)
        return self._after_iteration(execution, Over(path, given, waiting))

    def _after_iteration(self, execution: str, over: Over) -> Position:
        """Begin the iterations that may begin, and leave the Map once all of them are over."""
        children = list(over.children)
        failure = next((child for child in children if isinstance(child, Failed)), None)
        if failure:
            return self.fail(execution, over.path, over.data, failure)
        one_by_one = self.states[over.path].fields.get("MaxConcurrency") == 1
        for place, child in enumerate(children):
            if isinstance(child, Pending):
                children[place] = self.enter(execution, child.path, child.data)
            if one_by_one and not isinstance(children[place], Ended):
                break
        outputs = [data(child.output) for child in children if isinstance(child, Ended)]
        if len(outputs) < len(children):
            return over._replace(children=tuple(children))
        return self._next(execution, over.path, self._output(over.path, over.data, outputs))

    def _context(self, execution: str) -> dict[str, Any]:
        return {
            "Execution": {"Id": execution, "StartTime": TIME, "RedriveCount": 0},
            "State": {"EnteredTime": TIME},
            "Task": {"Token": f"token of {execution}"},
        }

    def _told(self, fields: dict[str, Any], name: str, given: str, context: dict[str, Any]) -> str:
        if f"{name}Path" in fields:
            return str(_filled({f"{name}.$": fields[f"{name}Path"]}, data(given), context)[name])
        return str(fields.get(name, ""))


def _fill(place: Any) -> str:
    name = place[1]
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Arn"))
    return FILLED.get(name, words[1:] if name.endswith("Arn") else name)


def _sibling(path: str, name: str) -> str:
    scope, _, _ = path.rpartition("/")
    return f"{scope}/{name}" if scope else name


def _filled(template: Any, given: Any, context: dict[str, Any]) -> Any:
    """Return Parameters, an ItemSelector or a ResultSelector, filled; the data itself without one."""
    if template is None:
        return given
    made = stepfunctions._resolve_params_obj(template, given, context)
    if lacks := list(missing(template, made)):
        raise PathMissing(f"{'; '.join(lacks)} in {text(given)}")
    return made
