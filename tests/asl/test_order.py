"""The order of the states in a file: from the start downwards, failures last, a heading above each part."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asl.support import MACHINES, ROOT, Broken, Rule, assert_holds, catches, holds, problem
from turnstile_cli.machines.definition import Machine

HEADING = re.compile(r" *# ---- (?P<title>[A-Z].*)")


def states_stand_below_a_state_that_leads_to_them(machine: Machine) -> Iterator[str]:
    for scope in machine.scopes():
        mentioned = {scope.start}
        for place, state in enumerate(scope.states.values()):
            if state.name not in mentioned:
                yield problem(machine, state, "move it down: no state above leads to it")
            if place == 0 and state.name != scope.start:
                yield problem(
                    machine, scope.states[scope.start], "move it up: StartAt names it, so it is the first state"
                )
            mentioned |= state.successors


def failures_stand_last(machine: Machine) -> Iterator[str]:
    for scope in machine.scopes():
        failed = False
        for state in scope.states.values():
            if failed and state.type != "Fail":
                yield problem(machine, state, "move it above the first Fail state: failures stand last")
            failed |= state.type == "Fail"


def headless(text: str, machine: Machine) -> list[str]:
    """Return the machine's own states without a heading, and the Fail states under a heading that names no failure."""
    own = next(machine.scopes()).states
    title, found = "", []
    for line in text.splitlines():
        if heading := HEADING.fullmatch(line):
            title = heading["title"] if line.startswith("  #") else title
        elif (name := line.strip().removesuffix(":")) in own and line == f"  {name}:":
            names_a_failure = title.startswith("Failure")
            if not title or (own[name].type == "Fail" and not names_a_failure):
                found.append(name)
    return found


@holds(states_stand_below_a_state_that_leads_to_them, failures_stand_last)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@pytest.mark.parametrize("name", MACHINES)
def test_each_part_has_a_heading(name: str) -> None:
    text = (ROOT / f"asl/{name}.asl.yaml").read_text("utf-8")
    assert headless(text, MACHINES[name]) == []
    headings = [line for line in text.splitlines() if "----" in line]
    assert [line for line in headings if not HEADING.fullmatch(line)] == [], "write a heading as `# ---- Heading.`"


@pytest.mark.parametrize("name", MACHINES)
def test_a_missing_heading_is_found(name: str) -> None:
    lines = (ROOT / f"asl/{name}.asl.yaml").read_text("utf-8").splitlines()
    headings = [place for place, line in enumerate(lines) if line.startswith("  # ----")]
    first, last = headings[0], headings[-1]
    assert MACHINES[name].definition["StartAt"] in headless(
        "\n".join([*lines[:first], *lines[first + 1 :]]), MACHINES[name]
    )
    if any(state.type == "Fail" for state in MACHINES[name].states()):
        assert headless("\n".join(lines).replace("# ---- Failure", "# ---- Other"), MACHINES[name])
        assert "Failure" in lines[last]


def _move(name: str, place: int) -> Callable[[dict[str, Any]], object]:
    """Return a change of a machine or a Map: move a state to another place, -1 for the last."""

    def change(fields: dict[str, Any]) -> None:
        block = fields.get("ItemProcessor", fields)
        names = [each for each in block["States"] if each != name]
        names.insert(place if place >= 0 else len(names), name)
        block["States"] = {each: block["States"][each] for each in names}

    return change


@catches(
    Broken(states_stand_below_a_state_that_leads_to_them, "agent_turn", "", _move("ClaimTurn", 1), named="ClaimTurn"),
    Broken(states_stand_below_a_state_that_leads_to_them, "agent_turn", "", _move("CloseTurn", 1), named="CloseTurn"),
    Broken(
        states_stand_below_a_state_that_leads_to_them,
        "agent_recovery",
        "Compensate",
        _move("Undone", 1),
        named="Undone",
    ),
    Broken(failures_stand_last, "agent_turn", "", _move("CloseTurn", -1), named="CloseTurn"),
    Broken(failures_stand_last, "agent_start", "", _move("PromptMissing", 2), named="FillDefaults"),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
