"""The command line where it needs no engine: what is wrong is said in one line, and the exit status tells."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from agent.record import PlanStep
from tests.unit.records import COMMITTED, answered, call, decided, decision, recovered, said, state, use, user
from workflows.cli import app
from workflows.client import Change
from workflows.console import Lines, Screen
from workflows.journal import Entry, read_entry


@pytest.fixture(autouse=True)
def nothing_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


NOT_HERE = "No embedded engine runs here; start one with `turnstile up`"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["list"], NOT_HERE),
        (["show", "a-1"], NOT_HERE),
        (["watch", "a-1", "--json"], NOT_HERE),
        (["trace", "a-1"], NOT_HERE),
        (["register", "agent.yaml"], NOT_HERE),
        (["input", "a-1", "hello"], NOT_HERE),
        (["start", "Fly", "--json"], NOT_HERE),
        (["start", ""], "prompt: String should have at least 1 character"),
        (["start", "Fly", "--id", "a#b"], "agent_id: String should match pattern"),
        (["input", "a-1", ""], "text: String should have at least 1 character"),
        (["demo", "--scenario", "nowhere"], "There is no scenario nowhere; there are: "),
        (["list", "--stack", "live"], "The stack live cannot be read: You must specify a region"),
    ],
)
def test_an_error_is_one_line_on_stderr(command: list[str], message: str) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"turnstile: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["list", "--status", "ASLEEP"], ["show"], ["dance"]])
def test_wrong_usage(command: list[str]) -> None:
    assert CliRunner().invoke(app, command).exit_code == 2


def entries() -> list[Entry]:
    usage = json.dumps({"inputTokens": 1, "outputTokens": 1, "costMicroUsd": 1, "modelId": "m"})
    items = [
        user("Fly me to [bold]Paris[/bold]."),
        decided(2, decision("PLAN", reflection="A plan helps."), said(use("u0", "update_plan"))),
        decided(3, decision("TOOL_USE", calls=[call("u1")]), said({"Text": "I look."}, use("u1", "look"))),
        answered(4, COMMITTED),
        decided(5, decision("INVALID", message="Call a tool."), said({"Text": "Well, well."})),
        decided(6, decision("COMPLETE", message="You fly."), said(use("u2", "complete"))),
    ]
    return [read_entry({"at": "2026-01-01T00:00:00Z", "execution": "arn", "usage": usage, **item}) for item in items]


def change() -> Change:
    plan = json.dumps([PlanStep(step=1, action="Look for flights", status="DONE").dump()])
    return Change(state(status="COMPLETED", step="6", plan=plan), entries())


def test_a_run_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is there, nothing is wider than the terminal, and no text is taken for markup."""
    screen = Screen(Console(width=60, highlight=False))
    screen.change(change(), [["ClaimTurn", "LoadTurn", "AskModel"]])
    screen.line("[dim]as it is[/dim]")
    shown = capsys.readouterr().out
    for text in (
        "Fly me to [bold]Paris[/bold].",
        "ClaimTurn → LoadTurn → AskModel",
        "● Look for flights",
        'look(city="Paris")',
        "✓ look found true",
        "✗ Call a tool.",
        "You fly.",
        "[dim]as it is[/dim]",
    ):
        assert text in shown
    assert max(len(line) for line in shown.splitlines()) <= 60
    assert "\x1b" not in shown


def test_what_a_recovery_did_is_told_to_a_person_and_to_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    spoke = recovered(
        2,
        "COMPENSATE",
        reason="GivenUp",
        note="The customer rang.",
        text="All was undone.",
        question="What shall I do instead?",
    )
    entry = read_entry({"at": "2026-01-01T00:00:00Z", "execution": "arn", **spoke})
    changed = Change(state(status="WAITING_FOR_INPUT", step="2"), [entry])
    Screen(Console(width=60, highlight=False)).change(changed, [["TakeOver", "RecordRecovery"]])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "TakeOver → RecordRecovery",
        "2 recover GivenUp → COMPENSATE",
        "note    The customer rang.",
        "told    All was undone.",
        "asks    What shall I do instead?",
    ]
    Lines().change(changed)
    [told] = json.loads(capsys.readouterr().out)["entries"]
    assert told["recovery"] == {name: spoke[name] for name in ("action", "reason", "note", "text", "question")}


def test_a_run_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Lines()
    reporter.progress("the engine")
    reporter.change(change(), [["ClaimTurn"]])
    progress, changed = map(json.loads, capsys.readouterr().out.splitlines())
    assert progress == {"type": "progress", "ready": "the engine"}
    assert (changed["agentId"], changed["status"], changed["step"]) == ("a-1", "COMPLETED", 6)
    assert [entry["who"] for entry in changed["entries"]] == ["USER", "MODEL", "MODEL", "TOOLS", "MODEL", "MODEL"]
    assert changed["entries"][0]["states"] == ["ClaimTurn"]
