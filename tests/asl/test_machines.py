"""Walking a definition reaches every state at every depth."""

from typing import Any

from turnstile_cli.machines.definition import Machine

INSIDE: dict[str, Any] = {
    "StartAt": "Deep",
    "States": {"Deep": {"Type": "Task", "Resource": "${DeepArn}", "End": True}},
}
DEFINITION: dict[str, Any] = {
    "StartAt": "Each",
    "States": {
        "Each": {
            "Type": "Map",
            "ItemProcessor": {
                "StartAt": "Both",
                "States": {"Both": {"Type": "Parallel", "Branches": [INSIDE], "End": True}},
            },
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Failed"}],
            "Next": "Route",
        },
        "Route": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.x", "IsPresent": True, "Next": "Each"}],
            "Default": "Done",
        },
        "Done": {"Type": "Succeed"},
        "Failed": {"Type": "Fail", "Cause": "${Cause}"},
    },
}
MACHINE = Machine("sample", DEFINITION)


def test_states_are_found_inside_a_map_and_a_parallel() -> None:
    assert [scope.path for scope in MACHINE.scopes()] == ["", "Each", "Each/Both[0]"]
    assert [state.path for state in MACHINE.tasks()] == ["Each/Both[0]/Deep"]
    assert next(MACHINE.tasks()).name == "Deep"


def test_a_state_knows_what_comes_after_it() -> None:
    own = next(MACHINE.scopes())
    assert {name: state.successors for name, state in own.states.items()} == {
        "Each": {"Failed", "Route"},
        "Route": {"Each", "Done"},
        "Done": set(),
        "Failed": set(),
    }
    assert own.states["Each"].caught == {"Failed"}
    assert [name for name, state in own.states.items() if state.ends] == ["Done", "Failed"]
    assert {state.name for state in own.reached_from("Route")} == {"Each", "Route", "Done", "Failed"}
    assert {state.name for state in own.reached_from("Done")} == {"Done"}


def test_substitutions_are_found_everywhere() -> None:
    assert MACHINE.substitutions() == {"DeepArn", "Cause"}
