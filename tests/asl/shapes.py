"""Proof of the data at each state: run a machine on shapes instead of values.

On AWS, a path that is missing ends the execution with an error that no Catch catches. So the data is followed along
every way through a machine. Where ways meet, only fields on both are proven; a Choice with `IsPresent` proves more.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel

from turnstile_cli.machines.definition import Machine, Scope, State

CONTEXT = {"$$.Execution.Id", "$$.Execution.RedriveCount", "$$.Execution.StartTime", "$$.State.EnteredTime"}
"""The context paths of every engine. Also `$$.Map.Item.Value` in an ItemSelector, and `$$.Task.Token` in a Task that
waits for it."""
_PATH = re.compile(r"\$\$?(?:\.[\w-]+|\[[*\d]+\])*")
_TEXT = re.compile(r"'(?:\\.|[^'\\])*'")
Way = tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """The known part of a value. A field outside `fields` may be missing. If `closed`, there are no fields outside
    `fields` and `maybe`."""

    fields: Mapping[str, "Shape"] = field(default_factory=dict)
    items: "Shape | None" = None
    """The shape of each item, if the value is a list."""
    text: "Shape | None" = None
    """The shape of the JSON in it, if the value is a text."""
    maybe: Mapping[str, "Maybe"] = field(default_factory=dict)
    """The shape of each field that may be missing."""
    closed: bool = False
    empty: bool = False
    """Whether the value is an empty list: where ways meet, the items of the other way are the only ones."""
    whole: type[BaseModel] | None = None
    """The model of the value if it is not empty: the value may be null, or leave out missing fields."""

    def at(self, way: Way) -> "Shape | None":
        """Return the value at a path; None if it may be missing."""
        if not way:
            return self
        inner = self.items if way[0] == "*" else self.fields.get(way[0])
        return inner and inner.at(way[1:])

    def put(self, way: Way, value: "Shape") -> "Shape":
        """Return the shape with a value put at a path, as ResultPath does."""
        if not way:
            return value
        inner = self.fields.get(way[0], NOTHING).put(way[1:], value)
        maybe = {name: known for name, known in self.maybe.items() if name != way[0]}
        return replace(self, fields={**self.fields, way[0]: inner}, maybe=maybe)

    def prove(self, way: Way) -> "Shape":
        """Return the shape with a path known to be present."""
        if not way:
            return self
        if self.whole:
            return _of_fields(self.whole).prove(way)
        inner = self.fields.get(way[0], NOTHING)
        maybe = self.maybe.get(way[0])
        if maybe and maybe.proof in (None, *way[1:2]):
            inner = replace(maybe.shape, fields={**maybe.shape.fields, **inner.fields})
        return replace(self, fields={**self.fields, way[0]: inner.prove(way[1:])})

    def lacks(self, way: Way) -> bool:
        """Return whether a path asks for a field that a known object never has."""
        if not way:
            return False
        if self.whole:
            return _of_fields(self.whole).at(way) is None
        if way[0] in self.fields:
            return self.fields[way[0]].lacks(way[1:])
        return self._never(way) if way[0] in self.maybe else self.closed

    def _never(self, way: Way) -> bool:
        """Return whether a path inside an optional field asks for a part that is unknown or never present."""
        if not way:
            return False
        known = self._known(way[0])
        return not known or all(maybe.shape._never(way[1:]) for maybe in known)

    def meet(self, other: "Shape") -> "Shape":
        """Return the known part of a value that is one of the two."""
        if self is other:  # most parts are, where two ways meet
            return self
        both = self.fields.keys() & other.fields.keys()
        maybe = {}
        for name in {*self.fields, *self.maybe, *other.fields, *other.maybe} - both:
            ours, theirs = self._known(name), other._known(name)
            if ours is not None and theirs is not None:
                maybe[name] = reduce(Maybe.meet, ours + theirs)
        return Shape(
            {name: self.fields[name].meet(other.fields[name]) for name in both},
            other.items if self.empty else self.items if other.empty else self._items(other),
            self.text and other.text and self.text.meet(other.text),
            maybe,
            self.closed and other.closed,
            self.empty and other.empty,
            self.whole if self.whole == other.whole else None,
        )

    def _items(self, other: "Shape") -> "Shape | None":
        return self.items and other.items and self.items.meet(other.items)

    def _known(self, name: str) -> "list[Maybe] | None":
        """Return the possible shapes of a field: an empty list if it is never present, None if that is not known."""
        if name in self.fields:
            return [Maybe(self.fields[name])]
        if name in self.maybe:
            return [self.maybe[name]]
        return [] if self.closed else None


@dataclass(frozen=True)
class Maybe:
    """The shape of an optional field. The inner field named by `proof` proves its presence; without one, any."""

    shape: Shape
    proof: str | None = None

    def meet(self, other: "Maybe") -> "Maybe":
        """Return the known part of a field that is one of the two."""
        return Maybe(self.shape.meet(other.shape), self.proof or other.proof)


NOTHING = Shape()


def record(fields: Mapping[str, Shape]) -> Shape:
    """Return an object with these fields and no others."""
    return Shape(fields, closed=True)


def of_value(value: Any) -> Shape:
    """Return the shape of a constant."""
    if isinstance(value, dict):
        return record({name: of_value(item) for name, item in value.items()})
    if isinstance(value, list):
        return Shape(items=meet(of_value(item) for item in value)) if value else Shape(empty=True)
    return NOTHING


def of_model(annotation: Any) -> Shape:
    """Return the shape of a pydantic model's dump. `X | None` counts as X: another field of the data tells which it is.

    Where X is the model itself, which nests, a Choice must check the data.
    """
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        sparse = annotation.__pydantic_decorators__.model_serializers
        return Shape(whole=annotation) if sparse else _of_fields(annotation)
    inner = [of_model(argument) for argument in get_args(annotation) if argument is not NoneType]
    if getattr(annotation, "__origin__", None) is list:
        return Shape(items=inner[0])
    return inner[0] if len(inner) == 1 else NOTHING


def _of_fields(model: type[BaseModel]) -> Shape:
    fields = model.model_fields.items()
    return record(
        {
            info.alias or name: Shape(whole=model)
            if model in get_args(info.annotation) and NoneType in get_args(info.annotation)
            else of_model(info.annotation)
            for name, info in fields
        }
    )


def meet(shapes: Iterable[Shape]) -> Shape:
    """Return the known part of a value that is one of these."""
    return reduce(Shape.meet, shapes)


@dataclass
class Flow:
    """A walk of the data through a machine.

    `results` gives the result of a Task; `errors` gives the value that a Catch of these names puts. Afterwards
    `problems` lists the paths that may be missing, and `ends` the output of each state that ends its scope, by path.
    """

    machine: Machine
    results: Callable[[State], Shape]
    errors: Callable[[list[str]], Shape]
    problems: dict[tuple[str, str], State] = field(default_factory=dict)
    ends: dict[str, Shape] = field(default_factory=dict)
    _state: State | None = None
    """The state whose reads are reported; None while the shapes are not yet complete."""

    def run(self, start: Shape) -> None:
        """Follow the data from the execution's input on."""
        scopes = {scope.path: scope for scope in self.machine.scopes()}
        self._run(scopes[""], start, scopes)

    def _run(self, scope: Scope, start: Shape, scopes: dict[str, Scope]) -> Shape:
        inputs, waiting = {scope.start: start}, [scope.start]
        outer, self._state = self._state, None
        while waiting:
            name = waiting.pop()
            for target, shape in self._steps(scope.states[name], inputs[name], scopes):
                found = shape if target not in inputs else inputs[target].meet(shape)
                if target and found != inputs.get(target):
                    inputs[target] = found
                    waiting.append(target)
        ends = []
        for name, shape in inputs.items():
            self._state = scope.states[name] if outer or not scope.path else None
            for target, output in list(self._steps(scope.states[name], shape, scopes)):
                if not target:
                    ends.append(output)
                    self.ends[scope.states[name].path] = output
        self._state = outer
        return meet(ends) if ends else NOTHING

    def _steps(self, state: State, raw: Shape, scopes: dict[str, Scope]) -> Iterator[tuple[str, Shape]]:
        """Yield each next state with its data; "" at an end."""
        fields = state.fields
        if state.type == "Choice":
            yield from self._choose(fields, raw)
            return
        for key in ("TimeoutSecondsPath", "SecondsPath", "TimestampPath", "ErrorPath", "CausePath"):
            if key in fields:
                self._evaluate(fields[key], raw)
        for catcher in fields.get("Catch", []):
            error = self.errors(catcher["ErrorEquals"])
            yield catcher["Next"], raw.put(_way(catcher.get("ResultPath", "$")), error)
        if state.type == "Fail":
            return
        value = self._evaluate(fields.get("InputPath", "$"), raw)
        if state.type == "Map":
            value = self._iterate(state, value, scopes)
        else:
            context = CONTEXT | ({"$$.Task.Token"} if state.waits_for_token else set())
            value = self._build(fields["Parameters"], value, context) if "Parameters" in fields else value
            if state.type == "Task":
                value = self.results(state)
            elif "Result" in fields:
                value = of_value(fields["Result"])
            elif state.type not in ("Pass", "Wait", "Succeed"):
                raise NotImplementedError(f"{state.path} is a {state.type}; teach tests/asl/shapes.py what it gives")
        if "ResultSelector" in fields:
            value = self._build(fields["ResultSelector"], value, context=frozenset())
        result_path = fields.get("ResultPath", "$")
        output = raw if result_path is None else raw.put(_way(result_path), value)
        output = self._evaluate(fields.get("OutputPath", "$"), output)
        yield "" if state.ends else fields["Next"], output

    def _iterate(self, state: State, value: Shape, scopes: dict[str, Scope]) -> Shape:
        item = self._evaluate(state.fields.get("ItemsPath", "$"), value).items or NOTHING
        if "ItemSelector" in state.fields:
            context = frozenset(CONTEXT | {"$$.Map.Item.Value"})
            item = self._build(state.fields["ItemSelector"], value, context, item)
        return Shape(items=self._run(scopes[state.path], item, scopes))

    def _build(
        self, template: Any, data: Shape, context: Iterable[str] = frozenset(CONTEXT), item: Shape = NOTHING
    ) -> Shape:
        """Return the shape that Parameters, an ItemSelector or a ResultSelector makes."""
        if isinstance(template, dict):
            return record(
                {
                    name.removesuffix(".$"): self._evaluate(part, data, context, item)
                    if name.endswith(".$")
                    else self._build(part, data, context, item)
                    for name, part in template.items()
                }
            )
        if isinstance(template, list):
            parts = [self._build(part, data, context, item) for part in template]
            return Shape(items=meet(parts)) if parts else Shape(empty=True)
        return NOTHING

    def _evaluate(
        self, expression: str, data: Shape, context: Iterable[str] = frozenset(CONTEXT), item: Shape = NOTHING
    ) -> Shape:
        """Return the shape that a path or an intrinsic function gives."""
        paths = _PATH.findall(_TEXT.sub("", expression))
        values = [self._read(path, data, context, item) for path in paths]
        if expression in paths:
            # A path with a wildcard gives a list.
            return Shape(items=values[0]) if "[*]" in expression else values[0]
        if expression.startswith("States.JsonMerge("):
            # The second value may replace fields of the first: for those, only their presence is known.
            kept = values[0].fields if values[1].closed else dict.fromkeys(values[0].fields, NOTHING)
            return Shape({**kept, **values[1].fields})
        if expression.startswith("States.ArrayGetItem("):
            return values[0].items or NOTHING
        if expression.startswith("States.StringToJson("):
            return values[0].text or NOTHING
        return NOTHING

    def _read(
        self, path: str, data: Shape, context: Iterable[str] = frozenset(CONTEXT), item: Shape = NOTHING
    ) -> Shape:
        if path.startswith("$$"):
            if path not in context:
                self._report(f"{path} is not available here on every engine")
            return item if path == "$$.Map.Item.Value" else NOTHING
        found = data.at(_way(path))
        if found is None:
            self._report(f"{path} may be missing here: ask IsPresent first, or make sure that every way here sets it")
        return found or NOTHING

    def _choose(self, fields: dict[str, Any], data: Shape) -> Iterator[tuple[str, Shape]]:
        for rule in fields["Choices"]:
            yield rule["Next"], self._assume(rule, data, True)
            data = self._assume(rule, data, False)
        if "Default" in fields:
            yield fields["Default"], data

    def _assume(self, rule: dict[str, Any], data: Shape, holds: bool) -> Shape:
        """Return the shape of the data once a condition is true, or false."""
        if "Not" in rule:
            return self._assume(rule["Not"], data, not holds)
        if "And" in rule or "Or" in rule:
            # All parts of a true And are true, and all parts of a false Or are false. Otherwise one part decides: it is
            # the last part that was evaluated.
            all_of = "And" in rule
            deciding = []
            for part in rule["And"] if all_of else rule["Or"]:
                deciding.append(self._assume(part, data, not all_of))
                data = self._assume(part, data, all_of)
            return data if all_of == holds else meet(deciding)
        if "IsPresent" in rule:
            if data.lacks(_way(rule["Variable"])):
                self._report(f"{rule['Variable']} is never there: nothing writes it")
            return data.prove(_way(rule["Variable"])) if rule["IsPresent"] == holds else data
        self._read(rule["Variable"], data)
        for operator, operand in rule.items():
            if operator.endswith("Path"):
                self._read(operand, data)
        return data

    def _report(self, text: str) -> None:
        if self._state:
            self.problems[self._state.path, text] = self._state


def _way(path: str) -> Way:
    return tuple(re.findall(r"[\w*-]+", path))
