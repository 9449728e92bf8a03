"""Test single states by Step Functions' TestState, on whole definitions, with mocks; and walk through a machine with
it."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from tests.states import examples
from turnstile_cli.engines.template import NO_REDRIVE
from turnstile_cli.machines.definition import SUBSTITUTION, Machine, Scope, State

MAP_ITEM = "$$.Map.Item.Value"
Answer = dict[str, Any]


@dataclass
class Walk:
    """A machine, tested by `client`. `inputs` has the input of each state: the merged data of all ways to it."""

    machine: Machine
    client: Any
    inputs: dict[str, Any] = field(default_factory=dict)

    def walk(self) -> Self:
        """Fill `inputs`."""
        self._through(self._scopes[""], examples.execution_input(self.machine))
        return self

    def changed(self, machine: Machine) -> "Walk":
        """Return a walk with another definition and the same inputs."""
        walk = Walk(machine, self.client, self.inputs)
        walk._ends.update(self._ends)
        return walk

    @cached_property
    def states(self) -> dict[str, State]:
        """Every state by its path."""
        return {state.path: state for state in self.machine.states()}

    @cached_property
    def definition(self) -> str:
        """The whole definition, with a value in every place that the template fills."""
        return SUBSTITUTION.sub(_filled, json.dumps(self.machine.definition).replace(*NO_REDRIVE))

    def test(self, path: str, result: Any = None, error: str = "", retries: int = 0, data: Any = None) -> Answer:
        """Test a state with its input from the walk, or with other data.

        Args:
            path: its place, as `CallTools/ReserveEffect`.
            result: the result of its work, if it works.
            error: the error of its work, in place of a result.
            retries: the number of retries so far.
            data: its input.
        """
        state = self.states[path]
        arguments: dict[str, Any] = {}
        if error:
            arguments["mock"] = {"errorOutput": {"error": error, "cause": examples.TEXT}}
            arguments["stateConfiguration"] = {"retrierRetryCount": retries}
        elif state.type in ("Task", "Map", "Parallel"):
            arguments["mock"] = {"result": json.dumps(result)}
        if "mock" in arguments:
            arguments["context"] = json.dumps(examples.CONTEXT)
        return dict(
            self.client.test_state(
                definition=self.definition,
                stateName=state.name,
                input=json.dumps(self.inputs[path] if data is None else data),
                inspectionLevel="DEBUG",
                **arguments,
            )
        )

    def result(self, path: str) -> Any:
        """Return the result of a Task's or a Map's work."""
        state = self.states[path]
        if state.type == "Task":
            return examples.result(state)
        inside = [scope for scope in self._scopes.values() if scope.path.partition("[")[0] == path]
        return [self._ends[scope.path][0] for scope in inside]

    # ----

    @cached_property
    def _scopes(self) -> dict[str, Scope]:
        return {scope.path: scope for scope in self.machine.scopes()}

    @cached_property
    def _ends(self) -> dict[str, list[Any]]:
        """The outputs with which each scope ends."""
        return {path: [] for path in self._scopes}

    def _through(self, scope: Scope, start: Any) -> None:
        """Follow every way through a scope, without regard to the conditions of its Choices."""
        waiting = [(scope.start, start)]
        while waiting:
            name, data = waiting.pop()
            state = scope.states[name]
            known = self.inputs.get(state.path)
            merged = _merged(known, data)
            if merged == known:
                continue
            self.inputs[state.path] = merged
            for target, output in self._onward(state, merged):
                if target:
                    waiting.append((target, output))
                else:
                    self._ends[scope.path].append(output)

    def _onward(self, state: State, data: Any) -> Iterator[tuple[str, Any]]:
        """Yield each next state with its data; "" at an end."""
        if state.type == "Choice":
            yield from ((target, data) for target in sorted(state.successors))
            return
        if state.type == "Wait":  # a test of it would wait on AWS
            yield state.fields.get("Next", ""), data
            return
        if state.type == "Fail":
            return
        if state.type == "Map":
            self._through(self._scopes[state.path], self._item(state, data))
        for index in range(len(state.fields.get("Branches", []))):
            self._through(self._scopes[f"{state.path}[{index}]"], data)
        for catcher in state.fields.get("Catch", []):
            answer = self.test(state.path, error=(error := named(catcher)), retries=attempts(state, error))
            yield catcher["Next"], json.loads(answer["output"])
        result = self.result(state.path) if state.type in ("Task", "Map", "Parallel") else None
        answer = self.test(state.path, result)
        yield answer.get("nextState", ""), json.loads(answer["output"])

    def _item(self, state: State, data: Any) -> Any:
        """Return the input of an iteration: a Pass makes it, with the first item in the place of every item."""
        items = state.fields.get("ItemsPath", "$")
        selector = state.fields.get("ItemSelector")
        first = {"InputPath": f"{items}[0]"} if selector is None else {}
        if selector is not None:
            first = {"Parameters": json.loads(json.dumps(selector).replace(MAP_ITEM, f"{items}[0]"))}
        maker = json.dumps({"Type": "Pass", "End": True, **first})
        answer = self.client.test_state(definition=maker, input=json.dumps(data))
        return json.loads(answer["output"])


def named(handler: dict[str, Any]) -> str:
    """Return an error that a retrier or a catcher names; for States.ALL, an error that neither names."""
    name = str(handler["ErrorEquals"][0])
    return "UnnamedError" if name == "States.ALL" else name


def attempts(state: State, error: str) -> int:
    """Return the number of retries of an error before it is caught."""
    retriers = [each for each in state.fields.get("Retry", []) if {error, "States.ALL"} & set(each["ErrorEquals"])]
    return int(retriers[0]["MaxAttempts"]) if retriers else 0


def missing(template: Any, made: Any, path: str = "") -> Iterator[str]:
    """Yield the paths in Parameters or a ResultSelector that gave no value: on AWS, each of them ends the execution."""
    if isinstance(template, dict):
        for key, part in template.items():
            name = key.removesuffix(".$")
            value = made.get(name) if isinstance(made, dict) else None
            if key == name:
                yield from missing(part, value, f"{path}.{name}")
            elif value is None:
                yield f"{path}.{name}: {part}"
    elif isinstance(template, list) and isinstance(made, list):
        for index, (part, value) in enumerate(zip(template, made, strict=True)):
            yield from missing(part, value, f"{path}[{index}]")


def at(data: Any, path: str) -> Any:
    """Return the value at a reference path, as `$.agent.step`."""
    for name in re.findall(r"[\w-]+", path):
        data = data[name]
    return data


def _filled(place: re.Match[str]) -> str:
    name = place[1]
    return f"arn:aws:lambda:us-east-1:123456789012:function:{name}" if name.endswith("Arn") else name


def _merged(known: Any, data: Any) -> Any:
    """Return both values merged; where they differ, the value that was there first."""
    if isinstance(known, dict) and isinstance(data, dict):
        return {name: _merged(known.get(name), data.get(name)) for name in {**known, **data}}
    if known in (None, [], {}):
        return copy.deepcopy(data)
    return known
