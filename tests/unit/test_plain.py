"""Texts of a model or a sender reach a person as plain text: no terminal obeys them, and no code takes them for
markup."""

import datetime as dt
import json
import unicodedata
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.records import call, came, decided, decision, effect, read_state, record, said, use, user
from tests.unit.test_cli import bus, looking, nothing_runs_here, run, stack, standing, store
from turnstile_agents.load_recovery.texts import texts
from turnstile_agents.plain import visible, visible_json, visible_lines
from turnstile_agents.record import Call, Decision
from turnstile_cli.cli import app, common
from turnstile_cli.cli.console import PlainConsole, Screen
from turnstile_cli.cli.trace import show_run
from turnstile_cli.machines.trace import Execution, Run, Visit
from turnstile_cli.stack.client import Stack, StackError

__all__ = ["nothing_runs_here", "stack"]
CONTROLS = [
    chr(code)
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        0x200E,
        0x200F,
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    )
]
HOSTILE = "a" + "".join(CONTROLS) + "[red]z[/red][link=http://x]:smile:"
# Rich and Python split words at some other characters; the characters here stay in a word.
SHORT = "a\x1b[2J\u202e\x9b[red]z[/red]:smile:"


def assert_plain(shown: str) -> None:
    found = {hex(ord(each)) for each in shown if each in CONTROLS and each != "\n"}
    assert found == set()


def held() -> Decision:
    """Return a decision that asks for approval of a call with two alternatives, with hostile text in every field."""
    last = call("u2", index=1).model_copy(update={"name": "third", "function": f"f3{SHORT}", "input": {SHORT: SHORT}})
    second = last.model_copy(update={"name": "second", "function": f"f2{SHORT}", "alternative": last})
    first: Call = call("u1").model_copy(
        update={"name": f"book{SHORT}", "input": {SHORT: [SHORT]}, "alternative": second, "approval": True}
    )
    return decision("ASK_APPROVAL", calls=[first], waits_for="2")


def hostile_agent(stack: Stack, **fields: str) -> None:
    asks = decided(2, held(), said({"Text": HOSTILE}, use("u1", f"book{SHORT}", **{SHORT: SHORT})))
    waits = standing("WAITING_FOR_APPROVAL", step="2", waitsFor="2", goal=HOSTILE, **fields)
    store(stack, user(HOSTILE), asks, came("e1", "AgentInputReceived", text=HOSTILE, by=HOSTILE), waits)


def test_every_control_has_an_escape_and_every_other_character_stays() -> None:
    assert_plain(visible(HOSTILE).replace("\n", "\x00"))
    assert visible("\x1b[2J \r\n\t\x7f\x9b\u202e") == r"\x1b[2J \r\n\t\x7f\u009b\u202e"
    assert visible_lines("a\r\nb") == "a\\r\nb"
    everything = "".join(map(chr, [*range(0x20, 0x7F), *range(0xA0, 0x600), 0x1F600, 0x4E2D]))
    assert visible(everything) == everything
    assert visible(visible(HOSTILE)) == visible(HOSTILE)
    value = {HOSTILE: [HOSTILE]}
    assert_plain(visible_json(json.dumps(value, ensure_ascii=False)))
    assert json.loads(visible_json(json.dumps(value, ensure_ascii=False))) == value
    bidi = {chr(code) for code in range(0x10000) if unicodedata.bidirectional(chr(code)) in _BIDI}
    assert bidi <= set(CONTROLS)


_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B"}


@pytest.mark.parametrize(
    "command",
    [
        ["show", "a-1"],
        ["show", "a-1", "--json"],
        ["list"],
        ["list", "--json"],
        ["watch", "a-1"],
        ["watch", "a-1", "--json"],
        ["verify"],
        ["verify", "--json"],
        ["approve", "a-1"],
        ["decide", "a-1", "RETRY"],
        ["settle", "a-1", SHORT, "--not"],
        ["cancel", "a-1", "--no-wait"],
        ["show", SHORT],
        ["input", "a-1", "Go.", "--no-wait"],
    ],
)
def test_no_command_lets_a_control_character_through(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    hostile_agent(stack, error=SHORT, errorMessage=HOSTILE)
    store(stack, {"record": f"NOTE#{HOSTILE}"} if command[0] == "verify" else effect("EFFECT#000002#0", "FAILED"))
    bus(stack)
    looking(monkeypatch, lambda: None)
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    monkeypatch.setattr("turnstile_cli.verify.time.sleep", lambda _: None)
    result = run(*command, typed="n\n")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.output
    assert_plain(result.output)
    if command in (["show", "a-1"], ["approve", "a-1"]):
        assert "[red]z[/red]:smile:" in result.output


def test_an_approval_shows_the_tool_its_arguments_and_every_alternative(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile_agent(stack)
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    for result in (run("show", "a-1"), run("approve", "a-1", typed="n\n")):
        shown = "".join("".join(result.output.split()))
        for name in ("second", "third"):
            assert f"ifthatisunavailable:{name}(" in shown
    [asked] = json.loads(run("show", "a-1", "--json").stdout)["approval"]["calls"]
    assert [each["toolName"] for each in asked["alternatives"]] == ["second", "third"]
    assert asked["alternatives"][1]["function"] == f"f3{SHORT}"
    assert asked["parameters"] == {SHORT: [SHORT]}
    monkeypatch.setattr(common, "is_interactive", lambda: False)
    assert "or second or third" in run("approve", "a-1").stderr


def test_an_execution_a_report_and_a_live_table_show_no_control(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(PlainConsole(width=200))
    when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    execution = Execution(
        arn=HOSTILE, machine=HOSTILE, status=HOSTILE, started=when, stopped=when, input={}, error=SHORT, cause=HOSTILE
    )
    data: Any = {SHORT: HOSTILE}
    visit = Visit(state=HOSTILE, kind="Task", entered=when, input=data, output=data, error=SHORT, cause=HOSTILE)
    told = Run(execution=execution, visits=[visit], transitions=1)
    for data, full in ((True, False), (True, True), (False, False)):
        show_run(screen, told, data=data, full=full)
    screen.visited(told)
    screen.title(HOSTILE)
    screen.progress(HOSTILE)
    screen.states([HOSTILE])
    screen.hint(HOSTILE)
    screen.line(HOSTILE)
    with screen.child(read_state(goal=HOSTILE)):
        pass
    shown = capsys.readouterr().out
    assert "[red]z[/red]" in shown
    assert_plain(shown)
    assert visible(HOSTILE) in shown  # the escaped text stays on one line


def test_an_error_that_repeats_what_was_sent_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise StackError(HOSTILE)

    monkeypatch.setattr("typer.core.TyperGroup.invoke", fail)
    result = CliRunner().invoke(app, ["list"])
    assert result.stderr == f"turnstile: {visible(HOSTILE)}\n"


def test_the_operators_message_has_the_lines_that_we_made() -> None:
    about = read_state(goal=HOSTILE, error=SHORT, errorMessage=HOSTILE, agentId=f"a{SHORT}", status="FAILED")
    plain = read_state(goal="g", error="e", errorMessage="m", agentId="a", status="FAILED")
    arguments = json.dumps({HOSTILE: HOSTILE}, ensure_ascii=False)
    [call_of] = record([effect("EFFECT#000002#0", "UNCERTAIN", f"book{SHORT}", input=arguments)]).effects
    needed = {"EFFECT#000002#0": [SHORT]}
    made = texts(about, [call_of], HOSTILE, needed, [], [], [])
    assert_plain(made.operator)
    assert_plain(made.subject.replace("\n", "\x00"))
    usual = call_of.model_copy(update={"tool": "book", "input": "{}"})
    assert made.operator.count("\n") == texts(
        plain, [usual], "no", {"EFFECT#000002#0": ["x"]}, [], [], []
    ).operator.count("\n")
