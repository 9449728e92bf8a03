"""Passes: a Pass changes the data, and a later state reads each field that it writes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.asl.support import MACHINES, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_cli.machines.definition import Machine, Scope, State

Way = tuple[str, ...]
_PATH = re.compile(r"(?<!\$)\$(?!\$)(?:\.[\w-]+|\[[^\]]+\])*")
_TEXT = re.compile(r"'(?:\\.|[^'\\])*'")
_PATH_FIELDS = (
    "InputPath",
    "ItemsPath",
    "TimeoutSecondsPath",
    "SecondsPath",
    "TimestampPath",
    "ErrorPath",
    "CausePath",
)


READ_OUTSIDE = {("agent_publish", "ReportFailures"): "the pipe reads the output of the execution"}
"""The passes whose fields no state reads, with their reader."""


def passes_change_the_data(machine: Machine) -> Iterator[str]:
    for state in machine.states():
        if state.type == "Pass" and (state.fields.get("ResultPath", "$") is None or not _made(state)):
            yield problem(machine, state, "remove it, and lead to its Next: it changes nothing")


def results_of_passes_are_read(machine: Machine) -> Iterator[str]:
    scopes = {scope.path: scope for scope in machine.scopes()}
    for scope in scopes.values():
        for state in scope.states.values():
            if state.type != "Pass" or state.fields.get("ResultPath", "$") is None:
                continue
            if (machine.name, state.path) in READ_OUTSIDE:
                continue
            for way in _written(_made(state), _way(state.fields.get("ResultPath", "$"))):
                if not _is_read_after(state, way, scope, scopes):
                    yield problem(machine, state, f"write no $.{'.'.join(way)}: no later state reads it")


def _made(state: State) -> Any:
    """Return what a Pass puts into the data; None if it only hands on its input."""
    return next((state.fields[key] for key in ("Result", "Parameters", "InputPath") if key in state.fields), None)


def _written(value: Any, place: Way) -> Iterator[Way]:
    """Yield the place of each field that has no fields itself."""
    if not isinstance(value, dict):
        yield place
        return
    for name, part in value.items():
        yield from _written(part, (*place, name.removesuffix(".$")))


def _is_read_after(writer: State, way: Way, scope: Scope, scopes: dict[str, Scope]) -> bool:
    """Return whether a state after `writer` reads the field before another state replaces it."""
    if writer.ends:
        return _is_read_outside(writer, way, scope, scopes)
    waiting, seen = [*writer.successors], set(writer.successors)
    while waiting:
        state = scope.states[waiting.pop()]
        if any(_touch(way, read) for read in _reads(state)):
            return True
        replaced = _replaces(state, way)
        if not replaced and state.ends and _is_read_outside(state, way, scope, scopes):
            return True
        onward = (state.caught if replaced else state.successors) - seen
        seen |= onward
        waiting += onward
    return False


def _is_read_outside(end: State, way: Way, scope: Scope, scopes: dict[str, Scope]) -> bool:
    """Return whether the field of an iteration's output is read in the Map's result."""
    if end.type == "Fail" or not scope.path:
        return False
    outer = scopes[scope.path.rpartition("/")[0]]
    around = outer.states[scope.path.rpartition("/")[2]]
    place = around.fields.get("ResultPath", "$")
    if place is None:
        return False
    if "ResultSelector" in around.fields:
        return any(
            _touch(("*", *way), read) for text in _dynamic(around.fields["ResultSelector"]) for read in _ways(text)
        )
    return _is_read_after(around, (*_way(place), "*", *way), outer, scopes)


def _replaces(state: State, way: Way) -> bool:
    """Return whether the state's success drops the field from the data, or puts another value in its place."""
    if state.type in ("Choice", "Wait", "Succeed", "Fail"):
        return False
    place = state.fields.get("ResultPath", "$")
    return "OutputPath" in state.fields or (place is not None and way[: len(_way(place))] == _way(place))


def _reads(state: State) -> Iterator[Way]:
    """Yield each place of the data that the state reads."""
    fields = state.fields
    texts = [fields[key] for key in (*_PATH_FIELDS, "OutputPath") if key in fields]
    texts += ["$"] if state.type == "Map" and "ItemsPath" not in fields else []
    texts += [*_dynamic(fields.get("Parameters", {})), *_dynamic(fields.get("ItemSelector", {}))]
    texts += _compared(fields.get("Choices", []))
    for text in texts:
        yield from _ways(text)


def _compared(rules: list[dict[str, Any]]) -> Iterator[str]:
    for rule in rules:
        yield from (text for key, text in rule.items() if key == "Variable" or key.endswith("Path"))
        yield from _compared([*rule.get("And", []), *rule.get("Or", []), *([rule["Not"]] if "Not" in rule else [])])


def _dynamic(template: Any) -> Iterator[str]:
    """Yield each expression of a payload template."""
    if isinstance(template, list):
        template = dict(enumerate(template))
    if isinstance(template, dict):
        for name, part in template.items():
            if str(name).endswith(".$"):
                yield part
            else:
                yield from _dynamic(part)


def _ways(expression: str) -> list[Way]:
    return [_way(path) for path in _PATH.findall(_TEXT.sub("", expression))]


def _way(path: str) -> Way:
    return tuple(re.findall(r"[\w*-]+", path))


def _touch(one: Way, other: Way) -> bool:
    """Return whether one place is the other, or is inside it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


@holds(passes_change_the_data, results_of_passes_are_read)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("place", READ_OUTSIDE, ids="-".join)
def test_every_pass_that_is_read_outside_is_one(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(READ_OUTSIDE, place)
    assert list(results_of_passes_are_read(MACHINES[place[0]])), "take it out of READ_OUTSIDE: a state reads it"


def _insert(name: str, state: dict[str, Any]) -> Any:
    """Return a change of a machine: a new state on the way to the start."""

    def change(machine: dict[str, Any]) -> None:
        machine["States"][name] = {**state, "Next": machine["StartAt"]}
        machine["StartAt"] = name

    return change


@catches(
    Broken(passes_change_the_data, "agent_turn", "", _insert("Begin", {"Type": "Pass"}), named="Begin"),
    Broken(passes_change_the_data, "agent_turn", "HandOver", lambda s: s.update(ResultPath=None)),
    Broken(passes_change_the_data, "agent_watch", "LookAfterAgents/LookedAfter", lambda s: s.pop("Result")),
    Broken(
        results_of_passes_are_read,
        "agent_start",
        "",
        _insert("Begin", {"Type": "Pass", "Result": "now", "ResultPath": "$.begun"}),
        named="Begin",
    ),
    Broken(results_of_passes_are_read, "agent_turn", "HandOver", lambda s: s["Result"].update(reason="many rounds")),
    Broken(results_of_passes_are_read, "agent_turn", "CloseTurn", lambda s: s.pop("Parameters"), named="HandOver"),
    Broken(results_of_passes_are_read, "agent_turn", "NextFallback", lambda s: s.update(ResultPath="$.later")),
    Broken(
        results_of_passes_are_read,
        "agent_recovery",
        "KeepError",
        lambda s: s["Parameters"].update({"step.$": "$.failure.step"}),
    ),
    Broken(
        results_of_passes_are_read,
        "agent_notify",
        "NotifyApprover",
        lambda s: s["Parameters"].pop("Message.$"),
        named="PrepareMessage",
    ),
    Broken(
        results_of_passes_are_read,
        "agent_publish",
        "PublishRecords",
        lambda s: s.update(ResultPath=None),
        named="NotPublished",
    ),
    Broken(
        results_of_passes_are_read,
        "agent_turn",
        "CallTools",
        lambda s: s.update(ResultPath="$.answers"),
        named="CallRejected",
    ),
    Broken(
        results_of_passes_are_read,
        "agent_recovery",
        "SettleEffects/Unsettled",
        lambda s: s.update(Type="Pass", Result={"settled": False}, End=True),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
