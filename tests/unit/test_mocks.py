"""The order in which mocks answer."""

from itertools import count
from typing import Any

from turnstile_cli.engines.adapt import Adapted
from turnstile_cli.engines.elsewhere import Registered
from turnstile_cli.local.mocks import answers, on_mocks
from turnstile_cli.machines.definition import Machine


class Told:
    """A history, built event by event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._ids = count(1)

    def event(self, kind: str, after: int, **details: Any) -> int:
        number = next(self._ids)
        self.events.append({"id": number, "type": kind, "previousEventId": after, **details})
        return number

    def entered(self, kind: str, name: str, after: int) -> int:
        return self.event(f"{kind}StateEntered", after, stateEnteredEventDetails={"name": name})

    def began(self, index: int, after: int) -> int:
        return self.event("MapIterationStarted", after, mapIterationStartedEventDetails={"index": index})

    def answered(self, output: str, after: int) -> int:
        return self.event("TaskSucceeded", after, taskSucceededEventDetails={"output": output})

    def failed(self, error: str, after: int) -> int:
        return self.event("TaskFailed", after, taskFailedEventDetails={"error": error, "cause": "why"})


def test_iterations_answer_one_after_the_other_and_maps_too() -> None:
    told = Told()
    last = told.answered("0", told.entered("Task", "Before", 0))
    for number in (1, 2):
        start = told.entered("Map", "Each", last)
        calls = [told.entered("Task", "Call", told.began(index, start)) for index in (0, 1)]
        told.answered(f"{number}1", calls[1])  # the second iteration is faster
        again = told.failed("Busy", calls[0])
        told.answered(f"{number}0", again)
        last = told.event("MapStateSucceeded", start)
        last = told.answered(f"{number}9", told.entered("Task", "After", last))
    found = answers(told.events)
    assert [(each.state, each.result, each.error) for each in found] == [
        ("Before", 0, ""),
        ("Call", None, "Busy"),
        ("Call", 10, ""),
        ("After", 19, ""),
        ("Call", 11, ""),
        ("Call", None, "Busy"),
        ("Call", 20, ""),
        ("After", 29, ""),
        ("Call", 21, ""),
    ]


def test_on_mocks_a_map_runs_one_iteration_at_a_time() -> None:
    call = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    inside = {"StartAt": "Call", "States": {"Call": call}}
    each = {"Type": "Map", "ItemProcessor": inside, "MaxConcurrency": 5, "End": True}
    machine = Machine("m", {"StartAt": "Each", "States": {"Each": each}})
    found = on_mocks(Registered("arn:m", "STANDARD", "role", Adapted(machine, [], [])))
    expected = {"Type": "Map", "Iterator": inside, "MaxConcurrency": 1, "End": True}
    assert found.machine.definition["States"]["Each"] == expected
    assert each["MaxConcurrency"] == 5
