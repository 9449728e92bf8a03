"""Scenario files: their valid fields, and the messages about wrong files."""

from datetime import date
from pathlib import Path

import pytest

from turnstile_agents.record import Status
from turnstile_cli.models.scenarios import ScenarioError, load_scenario, load_scenarios

GOOD = """
title: Books a flight
prompt: Fly on {tomorrow}
limits: { steps: 3, callsPerReply: 2 }
replies:
  - text: On {today} or {in_3_days}?
    tools: [{ name: book, input: { dates: ["{in_2_days}"], "{today}": "{unknown}" } }]
    usage: { inputTokens: 5, outputTokens: 6 }
    faults: [throttle, rubbish]
  - text: ""
    stopReason: max_tokens
inputs: ["{tomorrow}, please"]
decisions:
  - APPROVE
  - { decision: REFUSE, note: "Not {tomorrow}" }
children:
  - prompt: Help on {tomorrow}
    replies: [{ text: "On {today}" }]
expect:
  status: COMPLETED
  states: ClaimTurn CallTools
  effects: [{ tool: book, status: COMMITTED }]
  bookings: 1
  children: [COMPLETED]
"""


def write(agents: Path, text: str, name: str = "books", agent: str = "travel") -> Path:
    path = agents / agent / "scenarios" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_dates_are_counted_from_today(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, GOOD), date(2026, 12, 30))
    assert (scenario.name, scenario.agent) == ("books", "travel")
    assert scenario.prompt == "Fly on 2026-12-31"
    assert scenario.replies[0].text == "On 2026-12-30 or 2027-01-02?"
    assert scenario.replies[0].tools[0].input == {"dates": ["2027-01-01"], "{today}": "{unknown}"}
    assert scenario.inputs == ["2026-12-31, please"]
    assert [(ruling.decision, ruling.note) for ruling in scenario.decisions] == [
        ("APPROVE", ""),
        ("REFUSE", "Not 2026-12-31"),
    ]
    [child] = scenario.children
    assert (child.prompt, child.replies[0].text) == ("Help on 2026-12-31", "On 2026-12-30")
    assert scenario.expect.children == [Status.COMPLETED]
    assert scenario.limits == {"steps": 3, "callsPerReply": 2}
    assert scenario.expect.states == ["ClaimTurn", "CallTools"]
    assert scenario.expect.error is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title: Books a flight", "", "title: Field required"),
        ("title: Books a flight", "titel: Books", "titel: Extra inputs are not permitted"),
        ("faults: [throttle, rubbish]", "faults: [fire]", "replies.0.faults.0: Input should be 'throttle'"),
        ('text: ""', "usage: { inputTokens: 1, outputTokens: 1 }", "replies.1: Value error, a reply needs `text`"),
        ("steps: 3", "stepps: 3", "limits.stepps: Extra inputs"),
        ("status: COMPLETED", "status: DONE", "expect.status: Input should be 'INITIATED'"),
        ("- APPROVE", "- PERHAPS", "decisions.0.decision: Input should be 'APPROVE', 'REFUSE' or 'EXPIRE'"),
        ('replies: [{ text: "On {today}" }]', "", "children.0.replies: Field required"),
        ("children: [COMPLETED]", "children: [FINE]", "expect.children.0: Input should be 'INITIATED'"),
        ("status: COMMITTED", "status: SURE", "expect.effects.0.status: Input should be 'RESERVED'"),
        ("title: Books a flight", "title: Books\nname: other", "name: the file is called books"),
        ("title: Books a flight", "title: Books\nagent: other", "agent: the file is in the folder of travel"),
        ("title: Books a flight", "title: [", "is no valid YAML"),
    ],
)
def test_a_mistake_is_named_with_file_and_field(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ScenarioError, match=f"(?s)^{path}.*{problem}"):
        load_scenario(path)


def test_an_empty_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is no scenario: it has no fields"):
        load_scenario(write(tmp_path, ""))
    with pytest.raises(ScenarioError, match="cannot be read: No such file or directory"):
        load_scenario(tmp_path / "missing.yaml")


def test_all_are_loaded_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path, GOOD.replace("Fly", f"Fly {name}").replace("Help", f"Help {name}"), name)
    write(tmp_path, GOOD.replace("title: Books a flight", "title: C\nagent: other"), "c", "other")
    assert [scenario.name for scenario in load_scenarios(tmp_path)] == ["c", "a", "b"]


def test_a_prompt_belongs_to_one_scenario(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    path = write(tmp_path, GOOD, "copy")
    with pytest.raises(ScenarioError, match=f"^{path}: prompt: books has the same"):
        load_scenarios(tmp_path)


def test_a_childs_prompt_belongs_to_one_scenario_too(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    path = write(
        tmp_path, GOOD.replace("Fly on", "Help on").replace("Help on {tomorrow}\n    r", "Other\n    r"), "copy"
    )
    with pytest.raises(ScenarioError, match=f"^{path}: prompt: books has the same"):
        load_scenarios(tmp_path)


def test_the_scenarios_of_the_project_are_valid() -> None:
    load_scenarios()
