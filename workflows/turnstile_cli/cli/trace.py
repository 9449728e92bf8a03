"""The command `trace`: which states an agent's executions visited, and what each state did to its data."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.padding import Padding
from rich.text import Text as RichText

from turnstile_agents.items import RecoveryStep
from turnstile_cli.cli import common
from turnstile_cli.cli.common import AgentArgument, JsonOption, StackOption, check_ending
from turnstile_cli.cli.console import Screen, Text, counted, outcome, print_json, recovery_line
from turnstile_cli.machines.changes import Sign, differences, size
from turnstile_cli.machines.draw import PICTURES, save, way
from turnstile_cli.machines.trace import Execution, Run, Visit, befores, handled_error, without_tokens
from turnstile_cli.stack.client import StackError

LINES = 3
"""The most lines of one value, unless the data is shown in full."""
_LEGEND = (
    "in: what an execution, or an iteration of a Map, began with. + new, ~ changed, - gone; what a state kept is not "
    "shown. `--state NAME` shows one state with its whole input, `--full` cuts nothing."
)


def trace(
    agent: AgentArgument,
    data: Annotated[
        bool, typer.Option("--data", help="Show what each state did to its data, long values cut.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="With --data: show each state's input and output as JSON, nothing cut.")
    ] = False,
    turn: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only this turn; the headings show the numbers.")
    ] = None,
    state: Annotated[str | None, typer.Option(metavar="NAME", help="Only the visits of this state.")] = None,
    draw_to: Annotated[
        Path | None,
        typer.Option("--draw", metavar="FILE", help="Draw the way through the machines; FILE ends in .svg or .png."),
    ] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an agent's executions: the states that they visited, how long each took, its errors, and its data."""
    if full and not (data or as_json):
        raise typer.BadParameter("it shows the data of --data uncut; give --data too", param_hint="--full")
    if draw_to:
        check_ending(draw_to, PICTURES, "--draw")
    target = common.connect(stack)
    recoveries: dict[str, RecoveryStep] = {}
    try:
        _, record = target.read_agent(agent)
        executions = target.trail(record)
        recoveries = {step.execution: step for step in record.steps if isinstance(step, RecoveryStep)}
    except StackError:
        executions = target.refusals(agent)
        if not executions:
            raise
    runs = [without_tokens(target.run(execution)) for execution in _of_turn(executions, turn, agent)]
    shown = _of_state(runs, state, agent, turn) if state else runs
    if draw_to:
        save(draw_to, PICTURES[draw_to.suffix](way(runs)))
    if as_json:
        print_json(
            {"agentId": agent, "transitions": sum(r.transitions for r in shown), "runs": [r.dump() for r in shown]}
        )
        return
    screen = Screen()
    for run in shown:
        show_run(screen, run, recoveries.get(run.execution.arn), data, full, alone=state is not None)
    if not full:
        screen.hint(_LEGEND if data else "`--data` shows what each state did to its data.")


def _of_turn(executions: list[Execution], turn: int | None, agent: str) -> list[Execution]:
    """Return the execution of a turn, or all executions. Raise StackError if there are none."""
    if not executions:
        raise StackError(f"Step Functions keeps no execution of agent {agent} any more: it keeps each for 90 days")
    found = [execution for execution in executions if turn in (None, execution.turn)]
    if not found:
        turns = [execution.turn for execution in executions if execution.turn]
        has = f"has {counted(len(turns), 'turn')}" if turns else "has had no turn"
        raise StackError(f"Agent {agent} {has}; there is no turn {turn}")
    return found


def _of_state(runs: list[Run], state: str, agent: str, turn: int | None) -> list[Run]:
    """Return the runs that visited a state, with these visits only. Raise StackError if there are none."""
    found = [run.model_copy(update={"visits": [each for each in run.visits if each.state == state]}) for run in runs]
    if not any(run.visits for run in found):
        visited = ", ".join(dict.fromkeys(visit.state for run in runs for visit in run.visits))
        where = "" if turn is None else f" in turn {turn}"
        raise StackError(f"Agent {agent} visited no state {state}{where}; it visited {visited}")
    return [run for run in found if run.visits]


def show_run(
    screen: Screen,
    run: Run,
    recovery: RecoveryStep | None = None,
    data: bool = False,
    full: bool = False,
    alone: bool = False,
) -> None:
    """Print an execution and a line per visit; with `data`, also what each state did to its data.

    `recovery` is the entry that the execution wrote into the journal. `alone`: the visits before are not shown, so that
    each visit needs its input.
    """
    console = screen.console
    _show_head(screen, run, recovery, full)
    names = [each.state if each.iteration is None else f"  {each.iteration}: {each.state}" for each in run.visits]
    width = max(map(cell_len, ("State", *names)))
    console.print(Text(_row(width, "State", "Seconds", "Tries", "  Bytes" if data else "Error"), style="dim"))
    for visit, name, before in zip(run.visits, names, befores(run.visits), strict=True):
        seconds = "" if visit.seconds is None else f"{visit.seconds:.2f}"
        tries = str(visit.attempts) if visit.attempts > 1 else ""
        if not data:
            row = Text(_row(width, name, seconds, tries, visit.error))
            row.stylize("red", len(row) - len(visit.error))
            console.print(row)
            continue
        written = "" if visit.output is None else f"{size(visit.output):,}"
        console.print(Text(_row(width, name, seconds, tries, f"{written:>7}")))
        if full:
            _show_whole(screen, visit)
        else:
            _show_changes(screen, visit, None if alone else before)
        if visit.error:
            cause = visit.cause if full else outcome(visit.cause)
            console.print(Padding(Text(f"{visit.error}: {cause}", style="red"), (0, 0, 0, 2), expand=False))


def _show_head(screen: Screen, run: Run, recovery: RecoveryStep | None, full: bool) -> None:
    """Print an execution's machine, ARN and error, and the error that it recovers from."""
    execution, console = run.execution, screen.console
    took = f"{(execution.stopped - execution.started).total_seconds():.2f} s" if execution.stopped else "so far"
    turn = f", turn {execution.turn}" if execution.turn else ""
    screen.title(f"{execution.machine}{turn}  {execution.status}  {took}  {counted(run.transitions, 'transition')}")
    console.print(Text(execution.arn, style="dim"), soft_wrap=True)
    if execution.error:
        cause = execution.cause if full else outcome(execution.cause)
        console.print(Text(f"{execution.error}: {cause}", style="red"))
    error, message = handled_error(run.visits)
    if recovery or error:
        then = (recovery.action, recovery.status) if recovery else ()
        begin = "recovers from "
        line = recovery_line(recovery.reason if recovery else error, message, then, console.width - len(begin))
        console.print(Text.assemble(begin, line))


def _row(width: int, state: str, seconds: str, tries: str, last: str = "") -> str:
    return f"{state}{' ' * (width - cell_len(state))}  {seconds:>7}  {tries:>5}  {last}".rstrip()


def _show_whole(screen: Screen, visit: Visit) -> None:
    """Print a state's input and output as JSON that can be copied."""
    for label, value in (("in", visit.input), ("out", visit.output)):
        if value is not None:
            screen.line(Text(f"  {label}", style="bold"))
            screen.line(Text(json.dumps(value, ensure_ascii=False, indent=2)))


def _show_changes(screen: Screen, visit: Visit, before: Visit | None) -> None:
    """Print how a state's output differs from its input; its input too, unless that is the output of `before`."""
    if before is None or before.output != visit.input:
        fields = visit.input if isinstance(visit.input, dict) else {"": visit.input}
        for name, value in fields.items():
            _show_value(screen, "in", name, value)
    if visit.output is None:
        return
    gone = []
    for each in differences(visit.input, visit.output):
        if each.sign is Sign.GONE:
            gone.append(each.path)
        else:
            _show_value(screen, each.sign, each.path, each.value)
    if gone:
        _show(screen, Sign.GONE, Text(", ".join(gone), style="cyan"), "")


def _show_value(screen: Screen, sign: str, path: str, value: Any) -> None:
    """Print a value on at most `LINES` lines; a value that is cut ends with its size."""
    room = LINES * screen.console.width  # the layout of a long text takes long
    text = json.dumps(value, ensure_ascii=False)
    line = Text.assemble((path, "cyan"), ": " if path else "", text[:room])
    _show(screen, sign, line, f"… {size(value):,} bytes", cut=len(text) > room)


def _show(screen: Screen, sign: str, text: RichText, tail: str, cut: bool = False) -> None:
    """Print a text behind its sign, on at most `LINES` lines; the tail ends a text that is cut."""
    width = screen.console.width - 5
    lines = list(text.wrap(screen.console, width, overflow="fold"))
    if cut or len(lines) > LINES:
        del lines[LINES:]
        lines[-1].truncate(width - cell_len(tail))
        lines[-1].append(tail, style="bold")
    for number, line in enumerate(lines):
        line.rstrip()
        screen.console.print(Text.assemble((f"  {'' if number else sign:<3}", "bold"), line))
