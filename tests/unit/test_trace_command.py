"""`turnstile trace`: what it shows of a state's data, what it leaves out, and what it says of a wrong option."""

import datetime as dt
import json
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from tests.asl.support import MACHINES
from tests.unit.records import record, recovered
from turnstile_agents.items import RecoveryStep
from turnstile_cli.cli import app, common
from turnstile_cli.cli.console import PlainConsole, Screen
from turnstile_cli.cli.trace import LINES, show_run
from turnstile_cli.machines.changes import Difference, Sign, differences, size
from turnstile_cli.machines.trace import MASK, Execution, Run, Visit, befores, handled_error, without_tokens
from turnstile_cli.stack.client import StackError

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
TOKEN = {"question": {"Item": {"token": {"S": "secret-task-token"}}}}
LONG = {"words": "Ein langer Satz, 長い文。 " * 400}


def visit(state: str, before: Any, after: Any, iteration: int | None = None, **more: Any) -> Visit:
    return Visit(state, "Task", NOON, before, iteration, 0.5, after, **more)


def run(machine: str, *visits: Visit, turn: int | None = None, arn: str = "", error: str = "") -> Run:
    name = f"turnstile-{machine}"
    execution = Execution(
        arn=arn or f"arn:{machine}:{turn}",
        machine=name,
        status="SUCCEEDED",
        started=NOON,
        stopped=NOON,
        input={},
        error=error,
        cause="",
        turn=turn,
    )
    return Run(execution=execution, visits=list(visits), transitions=len(visits))


START = run("AgentStart", visit("CreateAgent", {"id": "e-1"}, {"id": "e-1"}))
FIRST = run(
    "AgentTurn",
    visit("ClaimTurn", {"id": "e-2", "detail": {"step": 1}}, {"id": "e-2", "detail": {"step": 1}, "agent": {"n": 1}}),
    visit("LoadTurn", {"id": "e-2", "detail": {"step": 1}, "agent": {"n": 1}}, {"agent": {"n": 2}, "request": LONG}),
    visit("AskModel", {"agent": {"n": 2}, "request": LONG}, {"agent": {"n": 2}, "request": LONG}),
    turn=1,
)
SECOND = run("AgentTurn", visit("ClaimTurn", {}, {"n": 1}), visit("CloseTurn", {"n": 1}, TOKEN), turn=2)
FAILURE = {"failure": {"agentId": "a-1", "error": "GivenUp", "message": "There is no\nhotel at the sea. " * 9}}
RECOVERY = run("AgentRecovery", visit("TakeOver", FAILURE, {}), visit("LoadRecovery", {}, {}), arn="arn:turn")
RUNS = [START, FIRST, RECOVERY, SECOND]


@pytest.fixture(autouse=True)
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agent a-1 have these executions, of which the recovery wrote an entry of the journal."""

    def read_agent(name: str) -> Any:
        if name != "a-1":
            raise StackError(f"There is no agent {name}")
        return None, record([{**recovered(5, "COMPENSATE", reason="GivenUp"), "execution": "arn:turn"}])

    stack = SimpleNamespace(
        read_agent=read_agent,
        trail=lambda _: [each.execution for each in RUNS],
        refusals=lambda name: [START.execution] if name == "refused" else [],
        run=lambda execution: next(each for each in RUNS if each.execution == execution),
    )
    monkeypatch.setattr(common, "connect", lambda _: stack)


def trace(*options: str, agent: str = "a-1") -> Any:
    return CliRunner().invoke(app, ["trace", agent, *options], env={"COLUMNS": "80"})


def lines(*options: str) -> list[str]:
    result = trace(*options)
    assert result.exit_code == 0, result.output
    return [line.rstrip() for line in result.stdout.splitlines() if line.strip()]


# ---- Pure


def test_the_difference_of_two_values() -> None:
    before = {"kept": [1], "agent": {"n": 1, "old": True}, "gone": 1, "typed": {"a": 1}}
    after = {"kept": [1], "agent": {"n": 2}, "new": {"x": 1}, "typed": [1]}
    assert list(differences(before, after)) == [
        Difference(Sign.CHANGED, "agent.n", 2),
        Difference(Sign.GONE, "agent.old", True),
        Difference(Sign.NEW, "new", {"x": 1}),
        Difference(Sign.CHANGED, "typed", [1]),
        Difference(Sign.GONE, "gone", 1),
    ]
    assert list(differences({"a": 1}, {"a": 1})) == []
    assert list(differences(None, [1])) == [Difference(Sign.CHANGED, "", [1])]


def test_the_size_is_that_of_the_text_that_step_functions_carries() -> None:
    assert size({"a": [1, "ü"]}) == len('{"a":[1,"ü"]}'.encode())


def test_the_visit_before_is_that_of_the_same_iteration_of_the_same_map() -> None:
    order = [("A", None), ("B", 0), ("B", 1), ("C", 1), ("C", 0), ("D", None), ("E", 0), ("F", None)]
    found = [visit(name, {}, {}, iteration) for name, iteration in order]
    before = [each and (each.state, each.iteration) for each in befores(found)]
    assert before == [None, None, None, ("B", 1), ("B", 0), ("A", None), None, ("D", None)]


def test_a_recovery_tells_the_error_that_it_handles() -> None:
    assert handled_error(RECOVERY.visits) == ("GivenUp", FAILURE["failure"]["message"])
    assert handled_error([visit("TakeOver", None, None), *FIRST.visits]) == ("", "")
    # The state and its data are those of the machine.
    take_over = next(state for state in MACHINES["agent_recovery"].states() if state.name == "TakeOver")
    values = take_over.fields["Parameters"]["ExpressionAttributeValues"]
    assert (values[":error"], values[":message"]) == ({"S.$": "$.failure.error"}, {"S.$": "$.failure.message"})


def test_a_task_token_is_masked_and_a_tools_token_is_not() -> None:
    kept = {"token": "of a tool", "list": [{"token": {"N": "1"}}]}
    shown = without_tokens(run("AgentInput", visit("ReadQuestion", [TOKEN], {**TOKEN, **kept})))
    masked = {"question": {"Item": {"token": {"S": MASK}}}}
    assert (shown.visits[0].input, shown.visits[0].output) == ([masked], {**masked, **kept})


# ---- The command


def test_without_data_each_visit_is_a_line() -> None:
    shown = lines()
    heads = [line.rstrip(" ─") for line in shown if "SUCCEEDED" in line]
    assert heads[1] == "turnstile-AgentTurn, turn 1  SUCCEEDED  0.00 s  3 transitions"
    assert [line.split() for line in shown if line.startswith("ClaimTurn")] == [["ClaimTurn", "0.50"]] * 2
    assert not any(line.startswith("  +") for line in shown)


def test_data_shows_what_each_state_did_and_repeats_nothing() -> None:
    shown = lines("--data", "--turn", "1")
    start = next(index for index, line in enumerate(shown) if line.startswith("State "))
    legend = next(index for index, line in enumerate(shown) if line.startswith("  in: "))
    table = shown[start + 1 : legend]
    assert [line.split() for line in table if not line.startswith(" ")] == [
        ["ClaimTurn", "0.50", f"{size(FIRST.visits[0].output):,}"],
        ["LoadTurn", "0.50", f"{size(FIRST.visits[1].output):,}"],
        ["AskModel", "0.50", f"{size(FIRST.visits[2].output):,}"],
    ]
    assert table[1:4] == ['  in id: "e-2"', '  in detail: {"step": 1}', '  +  agent: {"n": 1}']
    assert table[5] == "  ~  agent.n: 2"
    assert table[6].startswith('  +  request: {"words": "Ein langer Satz, 長い文。 Ein langer Satz')
    # The model's answer left the data as it was.
    assert table[-2] == "  -  id, detail"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_long_value_is_cut_to_a_few_lines_and_says_its_size(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(Screen(PlainConsole(width=columns)), FIRST, data=True)
    shown = capsys.readouterr().out.splitlines()[3:]
    [start] = [index for index, line in enumerate(shown) if line.startswith("  +  request: ")]
    value = shown[start : start + LINES]
    assert value[-1].endswith(f"… {size(LONG):,} bytes")
    assert not shown[start + LINES].startswith("     ")
    assert max(map(cell_len, shown)) <= columns
    assert not any(line.endswith(" ") for line in shown)


def test_full_cuts_nothing_and_can_be_copied() -> None:
    shown = trace("--data", "--full", "--turn", "1", "--state", "LoadTurn").stdout
    data = shown[shown.index("  in\n") + 5 :].split("  out\n")
    assert [json.loads(each) for each in data] == [FIRST.visits[1].input, FIRST.visits[1].output]


def test_a_single_state_has_its_whole_input() -> None:
    shown = lines("--data", "--state", "LoadTurn")
    assert [line for line in shown if line.startswith("turnstile-")] == [shown[0]]
    assert [line for line in shown if line.startswith("  in ")] == [
        '  in id: "e-2"',
        '  in detail: {"step": 1}',
        '  in agent: {"n": 1}',
    ]
    assert not any(line.startswith(("ClaimTurn", "AskModel")) for line in shown)


def test_a_single_state_that_follows_on_itself_has_its_input_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    again = run("AgentTurn", visit("RouteCall", {"n": 1}, {"n": 2}), visit("RouteCall", {"n": 2}, {"n": 2}))
    show_run(Screen(PlainConsole(width=80)), again, data=True, alone=True)
    assert [line for line in capsys.readouterr().out.splitlines() if "  in " in line] == ["  in n: 1", "  in n: 2"]


@pytest.mark.parametrize(("full", "told"), [(False, "No seats."), (True, '{"errorMessage": "No seats."}')])
def test_the_cause_of_a_lambdas_error_is_its_message(capsys: pytest.CaptureFixture[str], full: bool, told: str) -> None:
    failed = visit("CallWriteTool", {}, None, error="ToolRejected", cause='{"errorMessage": "No seats."}')
    show_run(Screen(PlainConsole(width=80)), run("AgentTurn", failed), data=True, full=full)
    assert f"  ToolRejected: {told}\n" in capsys.readouterr().out


def test_json_has_the_same_selection() -> None:
    told = json.loads(trace("--json", "--turn", "1", "--state", "AskModel", "--full").stdout)
    assert [each["execution"]["turn"] for each in told["runs"]] == [1]
    assert [each["state"] for each in told["runs"][0]["visits"]] == ["AskModel"]
    assert json.loads(trace("--json").stdout)["transitions"] == sum(each.transitions for each in RUNS)


@pytest.mark.parametrize("options", [["--data"], ["--data", "--full"], ["--json"]])
def test_no_option_shows_a_task_token(options: list[str]) -> None:
    shown = trace(*options).stdout
    assert "secret-task-token" not in shown
    assert MASK in shown


def test_a_recovery_tells_its_reason_in_one_line() -> None:
    [line] = [line for line in lines() if line.startswith("recovers from ")]
    assert line.startswith("recovers from GivenUp: There is no hotel at ")
    assert line.endswith("… → COMPENSATE → WAITING_FOR_INPUT")
    assert cell_len(line) <= 80


def test_a_recovery_that_has_yet_to_decide_tells_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    show_run(Screen(PlainConsole(width=400)), RECOVERY)
    message = " ".join(FAILURE["failure"]["message"].split())
    assert f"recovers from GivenUp: {message}\n" in capsys.readouterr().out
    [step] = record([recovered(5, "RETRY", reason="TurnDied")]).steps
    assert isinstance(step, RecoveryStep)
    show_run(Screen(PlainConsole(width=400)), run("AgentRecovery", visit("TakeOver", None, None)), step)
    assert "recovers from TurnDied → RETRY → PLANNING\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--turn", "3"], 1, "Agent a-1 has 2 turns; there is no turn 3"),
        (["--turn", "0"], 2, "Invalid value for '--turn'"),
        (["--state", "Nowhere", "--turn", "2"], 1, "visited no state Nowhere in turn 2; it visited ClaimTurn, CloseTu"),
        (["--state", "claimturn"], 1, "visited no state claimturn; it visited CreateAgent, ClaimTurn, LoadTurn"),
        (["--full"], 2, "Invalid value for --full: it shows the data of --data uncut; give --data too"),
    ],
)
def test_a_wrong_option_says_what_there_is(options: list[str], status: int, message: str) -> None:
    result = trace(*options)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in " ".join(result.stderr.split())


def test_executions_that_are_no_longer_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        common, "connect", lambda _: SimpleNamespace(read_agent=lambda _: (None, record([])), trail=lambda _: [])
    )
    assert trace().stderr == (
        "turnstile: Step Functions keeps no execution of agent a-1 any more: it keeps each for 90 days\n"
    )


def test_a_refused_request_has_no_turn() -> None:
    assert "turnstile-AgentStart  SUCCEEDED" in trace(agent="refused").stdout
    message = "turnstile: Agent refused has had no turn; there is no turn 1\n"
    assert trace("--turn", "1", agent="refused").stderr == message
