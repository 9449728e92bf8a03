"""The lint command finds every error, and no state is hidden from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import lint_machines
from tests.asl.support import MACHINES, ROOT, Broken, Rule, assert_holds, catches, holds, picked, problem
from turnstile_cli.machines.definition import InvalidDefinition, Machine, load_machine


def the_linter_is_content(machine: Machine) -> Iterator[str]:
    for text in lint_machines.problems(machine):
        yield problem(machine, None, text)


@holds(the_linter_is_content)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


@catches(
    Broken(the_linter_is_content, "agent_turn", "", lambda m: m.update(StartAt="Nowhere")),
    Broken(the_linter_is_content, "agent_turn", "LoadTurn", lambda s: s.update(Next="Nowhere")),
    Broken(the_linter_is_content, "agent_turn", "RouteEntry", lambda s: s.update(Default="Nowhere")),
    Broken(
        the_linter_is_content,
        "agent_turn",
        "LoadTurn",
        lambda s: picked(s, "Catch", "ErrorEquals=LeaseLost").update(Next="Nowhere"),
    ),
    Broken(the_linter_is_content, "agent_turn", "LoadTurn", lambda s: s.update(End=True)),
    Broken(the_linter_is_content, "agent_turn", "LoadTurn", lambda s: s.pop("Next")),
    Broken(
        the_linter_is_content,
        "agent_turn",
        "CallTools/RouteCall",
        lambda s: picked(s, "Choices", "Next=ReserveEffect").update(Next="Nowhere"),
    ),
    Broken(the_linter_is_content, "agent_turn", "", lambda m: m["States"].update(Unreached={"Type": "Succeed"})),
    Broken(
        the_linter_is_content,
        "agent_turn",
        "RouteEntry",
        lambda s: picked(s, "Choices", "Next=AskModel").update(StringIs="x"),
    ),
    Broken(the_linter_is_content, "agent_turn", "KeepClaim", lambda s: s["Parameters"].update({"a.$": "States.Do()"})),
    Broken(
        the_linter_is_content,
        "agent_turn",
        "CallTools",
        lambda s: s["ItemProcessor"]["States"].update(LoadTurn={"Type": "Succeed"}),
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()


def test_the_command_names_the_file_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "asl"
    folder.mkdir()
    monkeypatch.setattr(lint_machines, "ASL", folder)
    (folder / "good.asl.yaml").write_text("StartAt: A\nStates:\n  A: { Type: Succeed }\n")
    assert (lint_machines.main(), capsys.readouterr().out) == (0, "")
    (folder / "bad.asl.yaml").write_text("StartAt: B\nStates:\n  A: { Type: Succeed }\n")
    (folder / "empty.asl.yaml").write_text("")
    assert lint_machines.main() == 1
    printed = capsys.readouterr().out
    assert "asl/bad.asl.yaml: StartAt value B not found" in printed
    assert "empty.asl.yaml is no state machine" in printed


def test_a_command_that_finds_no_machine_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_machines, "ASL", tmp_path)
    assert lint_machines.main() == 1


def test_a_state_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.asl.yaml"
    path.write_text("StartAt: A\nStates:\n  A: { Type: Succeed }\n  A: { Type: Fail }\n")
    with pytest.raises(InvalidDefinition, match=r"twice\.asl\.yaml.*repeated key A"):
        load_machine(path)


@pytest.mark.parametrize("name", MACHINES)
def test_one_rule_stands_on_one_row(name: str) -> None:
    text = (ROOT / f"asl/{name}.asl.yaml").read_text("utf-8")
    assert list(lint_machines.style_problems(text)) == []


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("Catch:\n  - ErrorEquals: [States.ALL]\n    Next: B", 2),
        ("Retry:\n  - { ErrorEquals: [A,\n      B],\n      MaxAttempts: 1 }", 2),
        ("Choices:\n  - { Variable: $.a, IsNull: true, Next: B }\n  - Variable: $.b\n    IsNull: true\n    Next: B", 3),
        ("Choices:\n  - Or:\n      - { Variable: $.a, IsNull: true }\n      - Variable: $.b\n        IsNull: true", 4),
        ("Choices:\n  - Not:\n      Variable: $.a\n      IsNull: true\n    Next: B", 2),
        ("Choices:\n  - Not:\n      Or:\n        - Variable: $.a\n          IsNull: true\n    Next: B", 4),
        ("Parameters:\n  step: { N: '1' }", 2),
    ],
)
def test_a_rule_on_several_rows_and_a_bare_boolean_are_found(state: str, line: int) -> None:
    assert [found for found, _ in lint_machines.style_problems(state)] == [line]
