"""TestState with AWS's answers where MiniStack's differ: for states inside a Map, Maps themselves, retries, indexes.

MiniStack applies Catch before Retry, always answers `retryIndex` 0, ignores MaxDelaySeconds, finds no state inside a
Map and tests no Map. The code of real executions still finds the retrier and the catcher of an error.
"""

import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

Answer = tuple[int, Any, bytes | str]
"""Status, headers and body of a response."""


def answer_test_state(stepfunctions: ModuleType, need: Callable[[ModuleType, str], Any]) -> None:
    """Replace `_test_state(data)`; the replacement still calls it for everything but retries.

    Needs `_find_matching_retrier(retriers, error, counts)`, `_find_matching_catcher(catchers, error)` and
    `json_response(body)`. A mocked Map is tested as a Task: both treat a result in the same way.
    """
    test_state = need(stepfunctions, "_test_state")
    find_retrier = need(stepfunctions, "_find_matching_retrier")
    find_catcher = need(stepfunctions, "_find_matching_catcher")
    respond = need(stepfunctions, "json_response")

    def test(data: dict[str, Any]) -> Answer:
        definition = json.loads(data["definition"])
        name = data.get("stateName")
        found = next(_named(definition, name), None) if name else None
        if found is None:
            answer: Answer = test_state(data)
            return answer
        state = {**found, "Type": "Task"} if found["Type"] in ("Map", "Parallel") else found
        details: dict[str, Any] = {}
        failure = data.get("mock", {}).get("errorOutput")
        if failure:
            retriers, done = found.get("Retry", []), data.get("stateConfiguration", {}).get("retrierRetryCount", 0)
            retrier, index = find_retrier(retriers, failure["error"], dict.fromkeys(range(len(retriers)), done))
            if retrier:
                details = {"retryIndex": index, "retryBackoffIntervalSeconds": _delay(retrier, done)}
                told = {"status": "RETRIABLE", "error": failure["error"], "cause": failure.get("cause", "")}
                return respond({**told, "inspectionData": {"errorDetails": details}})  # type: ignore[no-any-return]
            catchers = found.get("Catch", [])
            if catcher := find_catcher(catchers, failure["error"]):
                details = {"catchIndex": catchers.index(catcher)}
        alone = {**definition, "StartAt": name, "States": {name: state}}
        status, headers, body = test_state({**data, "definition": json.dumps(alone)})
        if not details:
            return status, headers, body
        told = json.loads(body)
        told["inspectionData"] = told.get("inspectionData", {}) | {"errorDetails": details}
        return respond(told)  # type: ignore[no-any-return]

    stepfunctions._test_state = test  # type: ignore[attr-defined]


def _named(block: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield the state of this name, also from inside a Map or a Parallel."""
    for key, state in block["States"].items():
        if key == name:
            yield state
        for inner in (state.get("ItemProcessor"), *state.get("Branches", [])):
            if inner:
                yield from _named(inner, name)


def _delay(retrier: dict[str, Any], done: int) -> int:
    """Return the whole seconds until the next attempt, before jitter."""
    seconds = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** done
    return int(min(seconds, retrier.get("MaxDelaySeconds", seconds)))
