"""Each state by itself: its handling of a result, of each error that it retries, and of each error that it catches.

By TestState, on the whole definitions. The cases come from the definitions, the data from the contracts (examples.py).
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.asl.support import MACHINES
from tests.states import examples
from tests.states.cases import Case, catches, every, others, results, retries, untested
from tests.states.conftest import Walks
from tests.states.walk import Walk, at, attempts, missing
from turnstile_cli.machines.definition import Machine

pytestmark = pytest.mark.xdist_group("states")
Check = Callable[[Walk, Case], None]


def check_result(walk: Walk, case: Case) -> None:
    """Check that the state works, puts its result only into the right place, and leads to the next state."""
    state, data = walk.states[case.path], walk.inputs[case.path]
    answer = walk.test(case.path, walk.result(case.path))
    assert answer["status"] == "SUCCEEDED", answer
    assert answer.get("nextState") == state.fields.get("Next")
    if state.type == "Task" and "Parameters" in state.fields:
        made = json.loads(answer["inspectionData"]["afterParameters"])
        assert list(missing(state.fields["Parameters"], made)) == [], "on AWS each of these paths ends the execution"
    output = json.loads(answer["output"])
    if "OutputPath" in state.fields:
        return
    place = state.fields.get("ResultPath", "$")
    if place is None:
        assert output == data
        return
    assert _without(output, place) == _without(data, place)
    assert list(missing(state.fields.get("ResultSelector", {}), at(output, place))) == []


def check_retry(walk: Walk, case: Case) -> None:
    """Check that an error is retried as often as its retrier says, later each time, and then caught."""
    state = walk.states[case.path]
    retrier = state.fields["Retry"][case.place]
    for done in (0, retrier["MaxAttempts"] - 1):
        answer = walk.test(case.path, error=case.error, retries=done)
        assert (answer["status"], answer["error"]) == ("RETRIABLE", case.error)
        details = answer["inspectionData"]["errorDetails"]
        seconds = min(retrier["IntervalSeconds"] * retrier["BackoffRate"] ** done, retrier["MaxDelaySeconds"])
        assert details["retryIndex"] == case.place
        assert details["retryBackoffIntervalSeconds"] == seconds
    answer = walk.test(case.path, error=case.error, retries=retrier["MaxAttempts"])
    catcher = next((each for each in state.fields.get("Catch", []) if _names(each, case.error)), None)
    assert answer["status"] == ("CAUGHT_ERROR" if catcher else "FAILED")
    assert answer.get("nextState") == (catcher["Next"] if catcher else None)


def check_catch(walk: Walk, case: Case) -> None:
    """Check that the state leads where its own catcher says, with the error in its place and the rest of the data."""
    state, data = walk.states[case.path], walk.inputs[case.path]
    catcher = state.fields["Catch"][case.place]
    answer = walk.test(case.path, error=case.error, retries=attempts(state, case.error))
    assert (answer["status"], answer.get("nextState")) == ("CAUGHT_ERROR", catcher["Next"])
    assert answer["inspectionData"]["errorDetails"]["catchIndex"] == case.place
    output, place = json.loads(answer["output"]), catcher.get("ResultPath", "$")
    assert place is not None, "the error is lost"
    assert at(output, place) == {"Error": case.error, "Cause": examples.TEXT}
    assert _without(output, place) == _without(data, place)


def check_other(walk: Walk, case: Case) -> None:
    """Check that the state decides, prepares or ends."""
    state = walk.states[case.path]
    answer = walk.test(case.path)
    if state.type == "Fail":
        assert answer["status"] == "FAILED"
        assert answer["error"] and answer["cause"]
        return
    assert answer["status"] == "SUCCEEDED", answer
    assert answer.get("nextState", "") in (state.successors or {""})
    if "Parameters" in state.fields:
        made = at(json.loads(answer["output"]), state.fields.get("ResultPath", "$"))
        assert list(missing(state.fields["Parameters"], made)) == [], "on AWS each of these paths ends the execution"


@pytest.mark.parametrize("case", every(results), ids=str)
def test_result(walks: Walks, case: Case) -> None:
    check_result(walks(case.machine), case)


@pytest.mark.live
@pytest.mark.parametrize("walks", ["aws"], indirect=True)
@pytest.mark.parametrize("case", every(retries), ids=str)
def test_retry(walks: Walks, case: Case) -> None:
    """Check every retry on AWS only: the embedded engine would compare our definitions with our own arithmetic."""
    check_retry(walks(case.machine), case)


@pytest.mark.parametrize("case", every(catches), ids=str)
def test_catch(walks: Walks, case: Case) -> None:
    check_catch(walks(case.machine), case)


@pytest.mark.parametrize("case", every(others), ids=str)
def test_other(walks: Walks, case: Case) -> None:
    check_other(walks(case.machine), case)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda machine: machine.name)
def test_every_state_is_tested_except_waits(machine: Machine) -> None:
    assert {state.type for state in untested(machine)} <= {"Wait"}


# ---- These tests can fail


@dataclass(frozen=True)
class Broken:
    """A change to a state that a check must notice."""

    check: Check
    case: Case
    change: Callable[[dict[str, Any]], object]


def _catch_all_first(state: dict[str, Any]) -> None:
    state["Catch"].reverse()


def _retry_before(state: dict[str, Any]) -> None:
    state["Retry"].insert(0, {**state["Retry"][0], "ErrorEquals": ["States.TaskFailed"]})


LOAD = Case("agent_turn", "LoadTurn")
THROTTLED = Case("agent_turn", "AskModel", error="BedrockRuntime.ThrottlingException")
BROKEN = [
    Broken(check_result, LOAD, lambda s: s["Parameters"]["Payload"].update({"a.$": "$.agent.nothing"})),
    Broken(
        check_result,
        Case("agent_turn", "ClaimTurn"),
        lambda s: s["ResultSelector"].update({"a.$": "$.Attributes.nothing.S"}),
    ),
    Broken(
        check_result,
        Case("agent_turn", "CallTools/ReserveEffect"),
        lambda s: s["Parameters"]["TransactItems"][0]["Put"]["Item"].update(a={"S.$": "$.effect.nothing"}),
    ),
    Broken(check_retry, THROTTLED._replace(place=1), _retry_before),
    Broken(check_catch, LOAD._replace(error="LeaseLost", place=4), _catch_all_first),
    Broken(check_catch, LOAD._replace(error="LeaseLost"), lambda s: s["Catch"][0].update(ResultPath=None)),
    Broken(check_catch, LOAD._replace(error="LeaseLost"), lambda s: s["Catch"][0].update(ErrorEquals=["LeasLost"])),
    Broken(
        check_other,
        Case("agent_turn", "PlanningFailed"),
        lambda s: s["Parameters"].update({"a.$": "$.error.Nothing"}),
    ),
    Broken(check_other, Case("agent_turn", "TurnLost"), lambda s: s.pop("Cause")),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.check.__name__}-{broken.case}")
def test_change_is_caught(walks: Walks, broken: Broken) -> None:
    walk = walks(broken.case.machine)
    broken.check(walk, broken.case._replace(place=0))
    definition = copy.deepcopy(walk.machine.definition)
    machine = Machine(walk.machine.name, definition)
    broken.change(next(state.fields for state in machine.states() if state.path == broken.case.path))
    with pytest.raises(AssertionError):
        broken.check(walk.changed(machine), broken.case)


def _without(data: Any, place: str) -> Any:
    """Return the data without the value at a reference path."""
    *way, last = place.removeprefix("$").split(".") if place != "$" else ["", ""]
    if not last:
        return None
    rest = copy.deepcopy(data)
    inner = rest
    for name in way[1:]:
        inner = inner[name]
    inner.pop(last, None)
    return rest


def _names(handler: dict[str, Any], error: str) -> bool:
    return bool({error, "States.ALL"} & set(handler["ErrorEquals"]))
