"""The commands that need no engine: an error is one line on stderr, and sets the exit status."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from tests.unit.records import (
    COMMITTED,
    UNCERTAIN,
    answered,
    call,
    came,
    cancelling,
    child,
    decided,
    decision,
    definition,
    effect,
    read_state,
    record,
    recovered,
    reported,
    ruled,
    said,
    state,
    use,
    user,
)
from tests.unit.stacks import mock_stack, put
from turnstile_agents.items import Attributes
from turnstile_agents.journal import Entry, read_journal
from turnstile_agents.record import Model, PlanStep, Status
from turnstile_cli.cli import COMMANDS, agents, app, common, load_command
from turnstile_cli.cli.console import Lines, PlainConsole, Screen, print_json
from turnstile_cli.stack import client
from turnstile_cli.stack.client import Stack, StackError
from turnstile_cli.stack.shapes import Change, ListedAgent, WatchedAgent


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
        (["approve", "a-1"], NOT_HERE),
        (["cancel", "a-1"], NOT_HERE),
        (["watch", "--all"], NOT_HERE),
        (["watch"], "Give either an agent's id, or --all to watch every agent that is not finished"),
        (["watch", "a-1", "--all"], "Give either an agent's id, or --all"),
        (["demo", "--scenario", "nowhere"], "There is no scenario nowhere; the scenarios are: "),
        (["list", "--stack", "live"], "The stack live cannot be read: You must specify a region"),
    ],
)
def test_an_error_is_one_line_on_stderr(command: list[str], message: str) -> None:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"turnstile: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["list", "--status", "ASLEEP"], ["show"], ["dance"], ["approve"], ["cancel"]])
def test_wrong_usage(command: list[str]) -> None:
    assert CliRunner().invoke(app, command).exit_code == 2


def entries() -> list[Entry]:
    items = [
        user("Fly me to [bold]Paris[/bold]."),
        decided(2, decision("PLAN", reflection="A plan helps."), said(use("u0", "update_plan"))),
        decided(3, decision("TOOL_USE", calls=[call("u1")]), said({"Text": "I look."}, use("u1", "look"))),
        answered(4, COMMITTED),
        decided(5, decision("INVALID", message="Call a tool."), said({"Text": "Well, well."})),
        decided(6, decision("COMPLETE", message="You fly."), said(use("u2", "complete"))),
    ]
    return read_journal(record(items))


def change() -> Change:
    plan = json.dumps([PlanStep(step=1, action="Look for flights", status="DONE").dump()])
    return Change(read_state(status="COMPLETED", step="6", plan=plan), entries())


def test_a_run_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Check that every text is printed, no line is wider than the terminal, and no text is taken for markup."""
    screen = Screen(PlainConsole(width=60))
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
    changed = Change(read_state(status="WAITING_FOR_INPUT", step="2"), read_journal(record([spoke])))
    Screen(PlainConsole(width=60)).change(changed, [["TakeOver", "RecordRecovery"]])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "TakeOver → RecordRecovery",
        "2 recover GivenUp → COMPENSATE → WAITING_FOR_INPUT",
        "note    The customer rang.",
        "told    All was undone.",
        "asks    What shall I do instead?",
    ]
    Lines().change(changed)
    [told] = json.loads(capsys.readouterr().out)["entries"]
    told_of = ("action", "status", "reason", "note", "by", "source", "text", "question")
    assert told["recovery"] == {name: spoke[name] for name in told_of}


def test_a_run_as_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Lines()
    reporter.progress("the engine")
    reporter.change(change(), [["ClaimTurn"]])
    progress, changed = map(json.loads, capsys.readouterr().out.splitlines())
    assert progress == {"type": "progress", "ready": "the engine"}
    assert (changed["agentId"], changed["status"], changed["step"]) == ("a-1", "COMPLETED", 6)
    assert [entry["who"] for entry in changed["entries"]] == ["USER", "MODEL", "MODEL", "TOOLS", "MODEL", "MODEL"]
    assert changed["entries"][0]["states"] == ["ClaimTurn"]


# ---- Approvals, children, cancelling

NOON = "2026-01-01T12:00:00Z"
GROUP = call("u2", "book", index=1).model_copy(update={"approval": True})
HELD = decided(
    2,
    decision("ASK_APPROVAL", calls=[call("u1"), GROUP], waits_for="2"),
    said({"Text": "I book."}, use("u1", "look"), use("u2", "book")),
)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setattr(common, "connect", lambda _: stack)
    for interval in ("INTERVAL", "CHECK_INTERVAL"):
        monkeypatch.setattr(client, interval, 0.01)
    with mock_stack() as stack:
        version = {"agentId": "DEFINITION#travel", "record": "VERSION#000001"}
        put(stack, {**version, "definition": definition().model_dump_json(by_alias=True)})
        yield stack


def standing(status: str, agent_id: str = "a-1", **fields: str) -> Attributes:
    times = dict.fromkeys(("lastUpdated", "createdAt", "lastPlanGeneratedAt", "lastToolExecutionAt"), NOON)
    counters = dict.fromkeys(("invocationCount", "errorCount", "toolCalls"), "1")
    rest = {"agentId": agent_id, "owner": "NONE", "nextAction": "NONE", "lastUpdatedBy": "arn:turn", "goal": "Fly"}
    return state(**{**times, **counters, **rest, "status": status, **fields})


def store(stack: Stack, *items: Attributes) -> None:
    usage = json.dumps({"inputTokens": 1, "outputTokens": 1, "costMicroUsd": 1, "modelId": "m"})
    for item in items:
        put(stack, {"agentId": "a-1", "at": NOON, "execution": "arn:turn", "usage": usage, **item})


def asking(stack: Stack) -> None:
    """Store an agent that waits for approval 2."""
    store(stack, user(), HELD, standing("WAITING_FOR_APPROVAL", step="2", waitsFor="2"))


Sent = list[tuple[str, dict[str, Any]]]


def bus(stack: Stack, *then: Attributes) -> Sent:
    """Return the list of events put on the bus; each put stores these items."""
    sent: Sent = []

    def take(detail_type: str, detail: Model) -> str:
        sent.append((detail_type, detail.dump()))
        store(stack, *then)
        return "e-1"

    stack.put = take  # type: ignore[method-assign]
    return sent


def run(*command: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, command, input=typed)


def decided_is(verdict: str, note: str = "") -> Sent:
    detail = {"agentId": "a-1", "approvalId": "2", "decision": verdict, "note": note, "inputId": None, "by": "ana"}
    return [("AgentDecisionGiven", detail)]


@pytest.mark.parametrize(
    ("options", "verdict", "note"),
    [([], "APPROVE", ""), (["--refuse", "--note", "Too dear."], "REFUSE", "Too dear.")],
)
def test_deciding_by_number(stack: Stack, options: list[str], verdict: str, note: str) -> None:
    asking(stack)
    sent = bus(stack)
    result = run("approve", "a-1", "2", *options, "--no-wait")
    assert (result.exit_code, result.stdout) == (0, f"Decided for agent a-1: {verdict}.\n")
    result = run("approve", "a-1", "2", *options, "--no-wait", "--json")
    told = {"agentId": "a-1", "approvalId": "2", "decision": verdict, "eventId": "e-1"}
    assert (result.exit_code, json.loads(result.stdout)) == (0, told)
    assert sent == decided_is(verdict, note) * 2


@pytest.mark.parametrize(("options", "terminal"), [([], False), (["--json"], True)])
def test_a_pipe_or_a_program_is_not_asked(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, options: list[str], terminal: bool
) -> None:
    if terminal:
        monkeypatch.setattr(common, "is_interactive", lambda: True)
    asking(stack)
    sent = bus(stack)
    result = run("approve", "a-1", *options, typed="y\n")
    assert (result.exit_code, result.stdout, sent) == (1, "", [])
    assert result.stderr == (
        "turnstile: Without a terminal, or with --json, name the approval: `turnstile approve a-1 2` decides "
        "about look, book, "
        "`turnstile show a-1` shows the calls\n"
    )


@pytest.mark.parametrize(
    ("options", "typed", "sent"),
    [
        ([], "y\n", decided_is("APPROVE")),
        (["--refuse"], "y\n", decided_is("REFUSE")),
        ([], "n\n", []),
        (["--refuse"], "\n", []),
    ],
)
def test_a_person_is_shown_the_calls_and_asked(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, options: list[str], typed: str, sent: Sent
) -> None:
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    asking(stack)
    put_on_bus = bus(stack)
    result = run("approve", "a-1", "--no-wait", *options, typed=typed)
    shown = [line.strip() for line in result.stdout.splitlines()]
    assert shown[:3] == [
        "asks    approval 2 of",
        'look(city="Paris") by turnstile-tool-look along with it',
        'book(city="Paris") by turnstile-tool-book',
    ]
    assert shown[3].startswith(f"{'Refuse' if options else 'Approve'} it? [y/N]:")
    assert (put_on_bus, result.exit_code) == (sent, 0 if sent else 1)
    assert shown[-1] == ("Decided for agent a-1: " + sent[0][1]["decision"] + "." if sent else "Nothing was decided.")


def test_an_approval_that_the_agent_does_not_wait_for(stack: Stack) -> None:
    asking(stack)
    sent = bus(stack)
    assert run("approve", "a-1", "7").stderr == (
        "turnstile: Agent a-1 waits for approval 2, not 7; nothing was changed\n"
    )
    store(stack, standing("PLANNING", waitsFor="2"))
    assert run("approve", "a-1", "2").stderr == (
        "turnstile: Agent a-1 is PLANNING and waits for no approval; nothing was changed\n"
    )
    assert sent == []


def test_what_comes_of_a_decision_is_followed(stack: Stack) -> None:
    asking(stack)
    done = decided(4, decision("COMPLETE", message="Booked."), said({"Text": "Good."}))
    over = standing("COMPLETED", step="4")
    bus(stack, ruled("2", "APPROVE", "e-1", note="Go."), answered(3, COMMITTED, COMMITTED), done, over)
    result = run("approve", "a-1", "2", "--note", "Go.")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines() if line.strip()]
    assert result.exit_code == 0
    assert lines[:6] == [
        "2 model I book.",
        '→ look(city="Paris")',
        '→ book(city="Paris") needs approval',
        "decided ✓ APPROVE: Go.",
        "3 tool ✓ look found true",
        "tool ✓ book found true",
    ]
    assert "COMPLETED Agent a-1" in lines
    assert not any("Fly me" in line for line in lines)


def test_cancelling_tells_what_stands(stack: Stack) -> None:
    booked = decided(
        2, decision("TOOL_USE", calls=[call("u1", index=0), call("u2", "book", index=1)]), said(use("u2", "book"))
    )
    entry = effect("EFFECT#000002#1", "COMMITTED")
    store(
        stack, user(), booked, answered(3, COMMITTED, COMMITTED), entry, standing("PLANNING", step="3", owner="arn:x#t")
    )
    stopped = standing("CANCELLED", step="3", cancels="1")
    sent = bus(stack, {**cancelling("Enough.", "e-1")}, stopped)
    result = run("cancel", "a-1", "--note", "Enough.")
    assert sent == [("AgentCancelRequested", {"agentId": "a-1", "note": "Enough.", "inputId": None, "by": "ana"})]
    assert (result.exit_code, "CANCELLED Agent a-1" in result.stdout) == (0, True)
    [stands] = [line for line in result.stdout.splitlines() if line.strip().startswith("stands")]
    assert stands.split(maxsplit=1)[1].strip() == 'book(city="Paris")'
    undo = effect("EFFECT#000002#1#UNDO#1", "FAILED", "unbook", error="ToolRejected", errorMessage="Too late.")
    store(stack, standing("PLANNING", step="3"), undo)
    assert "unbook did not undo it: ToolRejected: Too late." in run("cancel", "a-1").stdout
    assert "unbook did not undo it: ToolRejected: Too late." in run("show", "a-1").stdout
    store(stack, standing("PLANNING", step="3"), {**effect("EFFECT#000002#1", "COMPENSATED")})
    assert "nothing that it did stands" in run("cancel", "a-1").stdout
    store(stack, standing("PLANNING", step="3"))
    result = run("cancel", "a-1", "--json")
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, "CANCELLED")


def test_cancelling_tells_what_stands_of_what_the_children_did(stack: Stack) -> None:
    """Check a child that has finished, a child that has yet to stop, and a child that was never created."""
    booked = decided(2, decision("TOOL_USE", calls=[call("u2", "book")]), said(use("u2", "book")))
    own = [user(), booked, answered(3, UNCERTAIN), effect("EFFECT#000002#0", "UNCERTAIN")]
    store(stack, user(), standing("WAITING_FOR_AGENT", children='["b-1", "b-2", "b-3"]'))
    store(stack, *({**item, "agentId": "b-1"} for item in own), standing("FAILED", "b-1", step="3"))
    store(stack, {**user(), "agentId": "b-2"}, standing("PLANNING", "b-2"))
    bus(stack, cancelling("", "e-1"), standing("CANCELLED", children='["b-1", "b-2", "b-3"]'))
    shown = [" ".join(line.split()) for line in run("cancel", "a-1").stdout.splitlines()]
    assert shown[shown.index("agent a-1 CANCELLED") :] == [
        "agent a-1 CANCELLED",
        "nothing that it did stands",
        "agent b-1 FAILED",
        'stands book(city="Paris") UNCERTAIN',
        "not settled: EFFECT#000002#0",
        "agent b-2 PLANNING",
        "has yet to stop",
    ]


def test_an_agent_that_waits_for_its_operator_is_followed_until_it_is_cancelled(stack: Stack) -> None:
    """Check an agent whose operator is still asked when the cancellation is stored."""
    store(stack, user(), standing("WAITING_FOR_OPERATOR"))
    bus(stack, cancelling("", "e-1"))
    watch, seen = stack.watch, []

    def until_cancelled(*arguments: Any, **options: Any) -> Iterator[Change]:
        for change in watch(*arguments, **options):
            yield change
            seen.append(change.status.value)
            store(stack, standing("CANCELLED"))

    stack.watch = until_cancelled  # type: ignore[method-assign]
    assert run("cancel", "a-1").exit_code == 0
    assert seen == ["WAITING_FOR_OPERATOR", "CANCELLED"]


def test_a_cancellation_that_comes_too_late(stack: Stack) -> None:
    sent = bus(stack, standing("COMPLETED"))
    store(stack, user(), standing("COMPLETED"))
    result = run("cancel", "a-1")
    assert (result.exit_code, sent) == (1, [])
    assert result.stderr == "turnstile: Agent a-1 is COMPLETED: it is finished and cannot be cancelled\n"
    store(stack, standing("PLANNING"))
    assert run("cancel", "a-1").exit_code == 1


def test_cancelling_without_waiting(stack: Stack) -> None:
    store(stack, user(), standing("PLANNING"))
    bus(stack)
    assert run("cancel", "a-1", "--no-wait").stdout == "Asked agent a-1 to stop.\n"
    assert json.loads(run("cancel", "a-1", "--no-wait", "--json").stdout) == {"agentId": "a-1", "eventId": "e-1"}


RETRIED = recovered(2, "RETRY", reason="States.Timeout", text="Try again.")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("States.Timeout", "2 States.Timeout: The tool did not answer with… → RETRY → PLANNING"),
        ("", "2 States.Timeout → RETRY → PLANNING"),
        ("LaterError", "2 States.Timeout → RETRY → PLANNING"),
    ],
)
def test_a_recovery_tells_its_reason_in_one_line(
    stack: Stack, capsys: pytest.CaptureFixture[str], error: str, line: str
) -> None:
    """Check `show` and what is printed while it happens. The next turn takes the message out of STATE."""
    cause = json.dumps({"errorMessage": "The tool did not\nanswer within its time. " * 9}) if error else ""
    after = {"step": "2", "error": error, "errorMessage": cause}
    store(stack, user(), RETRIED, standing("PLANNING", **after))
    shown = run("show", "a-1").stdout.splitlines()
    assert [each for each in shown if "→ RETRY" in each and len(each) <= 80]
    screen = Screen(PlainConsole(width=68))
    screen.recoveries(read_state(**after), record([RETRIED]))
    assert capsys.readouterr().out.splitlines()[-1].strip() == line
    screen = Screen(PlainConsole(width=76))
    screen.change(Change(read_state(**after), read_journal(record([RETRIED]))))
    [told] = [each for each in capsys.readouterr().out.splitlines() if "→ RETRY" in each]
    assert told.split(maxsplit=2)[1:] == ["recover", line.removeprefix("2 ")]


def test_an_agent_without_a_recovery_shows_none(stack: Stack) -> None:
    store(stack, user(), standing("PLANNING"))
    assert "Recoveries" not in run("show", "a-1").stdout


# ---- The list


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("length", [5, 38, 64, 78, 200])
@pytest.mark.parametrize("goal", ["Fly", "Fly to Paris and back. " * 20, "飛行機を予約する" * 30, "🛫 Fly\nnow " * 30])
def test_the_list_fits_the_terminal_and_cuts_no_id(
    capsys: pytest.CaptureFixture[str], columns: int, length: int, goal: str
) -> None:
    name = "a" * length
    statuses = [Status.TOOL_EXECUTION_FAILED, Status.COMPLETED]
    listed = [
        ListedAgent(agent_id=name, status=status, last_updated=NOON, agent="x", goal=goal, error=error)
        for status, error in zip(statuses, ("States.Timeout", ""), strict=True)
    ]
    Screen(PlainConsole(width=columns)).agents(listed)
    shown = capsys.readouterr().out.splitlines()
    # The whole id stands on one line, with nothing behind it.
    ids = [line for line in shown if name in line]
    assert len(ids) == 2 and all(line.endswith(f" {name}") for line in ids)
    assert [line.strip() for line in ids] == [name] * 2 or all("2026-01-01 12:00Z" in line for line in ids)
    wide = [line for line in shown if cell_len(line) > columns]
    assert wide == ([f"  {name}"] * 2 if length + 2 > columns else [])
    assert len(shown) == (4 if length + 42 <= columns else 6)
    assert shown[-1].startswith(f"  {goal[:3].strip()}")
    assert "  States.Timeout  " in shown[len(shown) // 2 - 1]


def test_showing_children_and_an_approval(stack: Stack) -> None:
    asking(stack)
    store(
        stack,
        standing("WAITING_FOR_APPROVAL", step="2", waitsFor="2", parent="a-0", children='["child-1", "child-2"]'),
    )
    shown = [" ".join(line.split()) for line in run("show", "a-1").stdout.splitlines()]
    start = shown.index("asks approval 2 of")
    assert shown[start : start + 6] == [
        "asks approval 2 of",
        'look(city="Paris") by turnstile-tool-look along with it',
        'book(city="Paris") by turnstile-tool-book',
        "parent a-0",
        "agents child-1",
        "child-2",
    ]
    told = json.loads(run("show", "a-1", "--json").stdout)
    assert (told["parent"], told["children"], told["approval"]["approvalId"]) == ("a-0", ["child-1", "child-2"], "2")


def test_a_parent_whose_child_waits_for_a_person(stack: Stack) -> None:
    """Check that watching ends, and names the next command for each waiting child."""
    store(stack, user(), standing("WAITING_FOR_AGENT", children='["b-1", "b-2"]'))
    for agent_id, status in (("b-1", "COMPLETED"), ("b-2", "WAITING_FOR_APPROVAL")):
        store(stack, {**user(), "agentId": agent_id}, standing(status, agent_id))
    shown = run("watch", "a-1").stdout
    assert "It waits for 2 agents, and a person has to act for them." in shown
    assert "`turnstile approve b-2` decides about what it asks for." in shown
    assert "b-1" not in shown


# ---- All agents


def looking(monkeypatch: pytest.MonkeyPatch, *moves: Callable[[], None]) -> None:
    """Make one of the moves between two looks; then press Ctrl-C."""
    left = iter(moves)

    def sleep(_: float) -> None:
        move = next(left, None)
        if move is None:
            raise KeyboardInterrupt
        move()

    monkeypatch.setattr("turnstile_cli.stack.client.time.sleep", sleep)


@pytest.fixture
def crowd(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store an agent that waits for approval, and another agent that works and ends."""
    asking(stack)
    store(stack, standing("PLANNING", "b-1", goal="Look\nup"))
    done = standing("COMPLETED", "b-1", goal="Look\nup", step="3", lastUpdated="2999")
    looking(monkeypatch, lambda: None, lambda: store(stack, done))


@pytest.mark.usefixtures("crowd")
def test_watching_all_on_a_pipe() -> None:
    result = run("watch", "--all")
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()[:2]) == [
        "PLANNING                   1  b-1  Look up",
        "WAITING_FOR_APPROVAL       2  a-1  approval 2: book",
    ]
    assert result.stdout.splitlines()[2:] == ["COMPLETED                  3  b-1  Look up"]


@pytest.mark.usefixtures("crowd")
def test_watching_all_as_json() -> None:
    lines = [json.loads(line) for line in run("watch", "--all", "--json").stdout.splitlines()]
    assert [(line["agentId"], line["status"]) for line in lines[2:]] == [("b-1", "COMPLETED")]
    [asks] = [line for line in lines if line["agentId"] == "a-1"]
    assert (asks["step"], asks["waitsFor"], asks["goal"]) == (2, "approval 2: book", "Fly")


@pytest.mark.usefixtures("crowd")
def test_watching_all_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    console = PlainConsole(width=100, force_terminal=True, color_system=None, record=True)
    monkeypatch.setattr(agents, "Screen", lambda: Screen(console))
    assert run("watch", "--all").exit_code == 0
    shown = console.export_text()
    last = [" ".join(line.split()) for line in shown[shown.rindex("Waits for") :].splitlines()[1:]]
    assert last == ["COMPLETED 3 b-1 Look up", "WAITING_FOR_APPROVAL 2 a-1 Fly approval 2: book"]


def test_the_table_of_all_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Check that the columns that distinguish agents are complete, the others are cut, and each agent has one line."""
    name = f"child-{'0' * 32}"
    agent = WatchedAgent(
        agent_id=name,
        status=Status.PLANNING,
        last_updated=NOON,
        agent="x",
        goal="Fly " * 40,
        error="",
        step=7,
        waits_for="you",
    )
    console = PlainConsole(width=80)
    console.print(Screen(console).everybody([agent, agent]))
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"PLANNING  7     {name}  Fly ")
    assert len(lines[0]) <= 80


# ---- Printed while it happens


def test_a_run_with_an_approval_and_children(capsys: pytest.CaptureFixture[str]) -> None:
    delegated = decision("DELEGATE", children=[child("u3")], waits_for="4")
    done = decided(5, decision("COMPLETE", message="Done."), inputs=("INPUT#child-1", "INPUT#e1"))
    report = {"ToolResult": {"ToolUseId": "u3", "Content": [{"Text": "Found it."}], "Status": "success"}}
    told = said(report, {"Text": "Hurry."}, role="user")
    items = [
        HELD,
        answered(3, COMMITTED, COMMITTED),
        decided(4, delegated, said(use("u3", "delegate"))),
        {**done, "messages": json.dumps([told, said(use("u4", "complete"))])},
    ]
    approved = {**ruled("2", "APPROVE", by="eve"), "source": "com.agent.api"}
    inbox = [approved, reported("child-1"), came("e1", "AgentInputReceived", text="Hurry.", by="bob")]
    entries = read_journal(record([*items, *inbox]))
    Screen(PlainConsole(width=70)).change(Change(read_state(step="5"), entries), [(), ["CallTools"]])
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()] == [
        "2 model I book.",
        '→ look(city="Paris")',
        '→ book(city="Paris") needs approval',
        "decided ✓ APPROVE by eve",
        "CallTools",
        "3 tool ✓ look found true",
        "tool ✓ book found true",
        "4 model → helper: A detail.",
        "child-1",
        "5 child Found it.",
        "user Hurry. by bob (claimed)",
        "model Done.",
    ]


def test_show_tells_by_whom(stack: Stack) -> None:
    """Check the caller of the start and of an input: a name that the API has verified, or a claim."""
    heard = came("e1", "AgentInputReceived", text="Hurry.", by="bob")
    asks = decided(2, decision("ASK_USER", message="When?"), said(use("u1", "ask_user")))
    done = decided(3, decision("COMPLETE", message="Done."), said(use("u2", "complete")), inputs=("INPUT#e1",))
    started = {**standing("COMPLETED", step="3"), "by": "orders", "source": "com.agent.api"}
    store(stack, user(), asks, done, heard, started)
    shown = [" ".join(line.split()) for line in run("show", "a-1").stdout.splitlines()]
    assert any(line.startswith("created ") and line.endswith(" by orders") for line in shown)
    assert "user Fly me to Paris. by orders" in shown
    assert "user Hurry. by bob (claimed)" in shown
    told = json.loads(run("show", "a-1", "--json").stdout)
    assert told["caller"] == {"by": "orders", "source": "com.agent.api", "verified": True}


def test_what_a_child_does_is_told_further_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(PlainConsole(width=70))
    [born] = [record([standing("PLANNING", "child-1", goal="A detail.")]).state]
    assert born
    with screen.child(born):
        screen.change(Change(born, entries()[:1]), [["ClaimTurn"]])
    screen.change(Change(born, entries()[:1]), [["ClaimTurn"]])
    shown = capsys.readouterr().out.splitlines()
    places = {text: [line.index(text) for line in shown if text in line] for text in ("ClaimTurn", "Fly me")}
    assert places == {"ClaimTurn": [16, 12], "Fly me": [16, 12]}
    assert "            ┌ travel: A detail." in shown
    with Lines().child(born):
        Lines().change(Change(born, []))
    begins, changed = map(json.loads, capsys.readouterr().out.splitlines())
    assert begins == {"type": "child", "agentId": "child-1", "agent": "travel", "goal": "A detail."}
    assert changed["agentId"] == "child-1"


# ---- Text that no terminal can show

HALF = "\ud83d"
"""Half of a surrogate pair: no encoding can write it."""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_record_that_holds_half_a_character_is_shown(stack: Stack, options: list[str]) -> None:
    results = {**answered(3), "results": '[{"outcome": "COMMITTED", "value": {"\\ud83d": "\\udc00"}}]'}
    asked = decided(2, decision("TOOL_USE", calls=[call("u1")]), said(use("u1", "look")))
    store(stack, standing("PLANNING", step="3"), user(), asked, results)
    result = CliRunner().invoke(app, ["show", "a-1", *options])
    assert (result.exit_code, result.exception) == (0, None)
    assert "\ufffd" in result.stdout


def test_printing_never_ends_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(_: Any) -> Any:
        Screen().line(HALF)
        print_json({"text": HALF})
        raise StackError(f"Nothing is called {HALF}")

    monkeypatch.setattr(common, "connect", tell)
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 1
    assert result.stdout == '\\ud83d\n{"text": "\\ud83d"}\n'
    assert result.stderr == "turnstile: Nothing is called \\ud83d\n"


@pytest.mark.parametrize("command", [["start", HALF, "--goal", HALF], ["input", "a-1", HALF], ["cancel", "a-1"]])
def test_what_is_sent_is_cleaned(stack: Stack, command: list[str]) -> None:
    store(stack, standing("PLANNING"), user())
    note = ["--note", HALF] if command[0] == "cancel" else []
    result = CliRunner().invoke(app, [*command, *note, "--no-wait"])
    assert (result.exit_code, result.exception) == (0, None)


def test_the_help_imports_no_command() -> None:
    heavy = ["boto3", "pydantic", "ministack", "jsonschema"]
    code = (
        "import sys; from typer.testing import CliRunner; from turnstile_cli.cli import app; "
        "print(CliRunner().invoke(app, ['--help']).stdout); "
        f"print('imported:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imported: []" in done.stdout
    for name in COMMANDS:
        assert f" {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"], terminal_width=200)
    assert result.exit_code == 0
    first = " ".join((load_command(name).help or "").split())
    assert first and " ".join(result.stdout.split()).find(first[:40]) > 0
