"""The output of the command line: for a person on a terminal, or as JSON lines for a program."""

import datetime as dt
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text as RichText

from turnstile_agents.caller import Caller, caller_of
from turnstile_agents.conversation import reason
from turnstile_agents.items import AgentState, Record
from turnstile_agents.journal import Entry, Recovery, corrections, outcome_text, read_journal
from turnstile_agents.plain import visible, visible_json, visible_lines
from turnstile_agents.record import FINISHED, SETTLED, Call, Outcome, Status, Verdict
from turnstile_agents.view import AgentView, ApprovalView
from turnstile_cli.machines.trace import Run
from turnstile_cli.stack.sample import Layout
from turnstile_cli.stack.shapes import Change, ListedAgent, WatchedAgent
from turnstile_cli.verify import VerifyReport

RESULT_LENGTH = 240
"""Characters of a tool's result that are shown."""
_DONE = frozenset({"COMMITTED", "COMPENSATING"})
_STANDING = _DONE | {"UNCERTAIN"}
"""The statuses of a write that has happened or may have happened."""
_MARKS = {"PENDING": "○", "DONE": "●", "SKIPPED": "–"}


def tone(status: Status) -> str:
    """Return the colour of a status."""
    if status is Status.COMPLETED:
        return "green"
    if status in FINISHED or status.endswith("_FAILED"):
        return "red"
    return "yellow" if status in SETTLED else "cyan"


class Text(RichText):
    """A text whose control characters are escaped before the layout, which cuts off a line that is too wide."""

    def __init__(self, text: str = "", *options: Any, **more: Any) -> None:
        super().__init__(visible_lines(text), *options, **more)

    def append(self, text: RichText | str, style: Any = None) -> Self:
        """Add text, with its control characters escaped too."""
        super().append(visible_lines(text) if isinstance(text, str) else text, style)
        return self


class PlainConsole(Console):
    """A console that prints every text literally: no control codes for the terminal, no markup, no emoji codes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> RichText:
        """Turn a string into a text, with every control character escaped."""
        return super().render_str(visible_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an output. Its segments hold no control character except rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible_lines(segment.text), segment.style)


class Reporter(Protocol):
    """Shows a run while it happens."""

    def title(self, text: str) -> None:
        """Begin a part."""

    def progress(self, what: str) -> None:
        """Report that a thing is ready."""

    def change(self, change: Change, visited: Sequence[Sequence[str]] = ()) -> None:
        """Report a change of the agent's record. `visited`: for each entry, the states that led to it."""

    def states(self, visited: Sequence[str]) -> None:
        """Report the states that were visited after the last entry."""

    def child(self, state: AgentState) -> AbstractContextManager[None]:
        """Open a context for reports about a child agent; `state` is the child's STATE."""


class Lines:
    """A Reporter that writes a JSON object per line on stdout."""

    def title(self, text: str) -> None:
        """Do nothing: a program needs no headings."""

    def progress(self, what: str) -> None:
        """Write `{"type": "progress", "ready": …}`."""
        print_json({"type": "progress", "ready": what})

    def change(self, change: Change, visited: Sequence[Sequence[str]] = ()) -> None:
        """Write `{"type": "change", "agentId": …, "status": …, "step": …, "entries": […]}`."""
        entries = [entry.dump() for entry in change.entries]
        for entry, states in zip(entries, visited, strict=False):
            entry["states"] = list(states)
        state = change.state
        print_json(
            {
                "type": "change",
                "agentId": state.agent_id,
                "status": change.status,
                "step": state.step,
                "entries": entries,
            }
        )

    def states(self, visited: Sequence[str]) -> None:
        """Write `{"type": "states", "states": […]}`."""
        print_json({"type": "states", "states": list(visited)})

    @contextmanager
    def child(self, state: AgentState) -> Iterator[None]:
        """Write `{"type": "child", "agentId": …, "agent": …, "goal": …}`; each change names its agent."""
        print_json({"type": "child", **state.model_dump(by_alias=True, include={"agent_id", "agent", "goal"})})
        yield


class Screen:
    """A Reporter for a person, with all other output for a person."""

    def __init__(self, console: PlainConsole | None = None) -> None:
        self.console = console or PlainConsole()
        self._calls: list[Call] = []
        self._inset = 0

    def line(self, text: str | RichText = "") -> None:
        """Print a line without wrapping: the terminal wraps it, so that it can be copied."""
        self.console.print(visible(text) if isinstance(text, str) else text, soft_wrap=True)

    def title(self, text: str) -> None:
        """Print the heading of a part."""
        self.console.print()
        self.console.print(Rule(Text(text, style="bold"), align="left", style="dim"))

    def progress(self, what: str) -> None:
        """Print a line with a tick."""
        self.console.print(Text.assemble(("  ✓ ", "green"), what))

    def change(self, change: Change, visited: Sequence[Sequence[str]] = ()) -> None:
        """Print the new entries of the journal, each below the states that led to it."""
        for index, entry in enumerate(change.entries):
            states = visited[index] if index < len(visited) else ()
            if entry.ruling:
                # The decision started these states, so it comes before them.
                approved = entry.ruling.decision is Verdict.APPROVE
                mark = ("✓ ", "green") if approved else ("✗ ", "red")
                self.console.print()
                self.console.print(
                    _grid(
                        [("decided", Text.assemble(mark, (entry.ruling.text, "bold"), _by(entry.ruling.caller)))],
                        "",
                        self._inset,
                    )
                )
            self.states(states)
            self._entry(entry, change.state, blank=not (states or entry.ruling))

    def states(self, visited: Sequence[str]) -> None:
        """Print the states, dimmed."""
        if visited:
            self.console.print()
            states = Text(" → ".join(visited), style="dim")
            self.console.print(Padding(states, (0, 0, 0, 12 + self._inset), expand=False))

    @contextmanager
    def child(self, state: AgentState) -> Iterator[None]:
        """Print the child's name and goal, and indent its reports by 4 columns."""
        self._inset += 4
        name = Text.assemble("┌ ", (state.agent, "cyan"), f": {state.goal}\n", (f"  {state.agent_id}", "dim"))
        self.console.print()
        self.console.print(Padding(name, (0, 0, 0, 8 + self._inset), expand=False))
        calls = self._calls
        try:
            yield
        finally:
            self._inset -= 4
            self._calls = calls

    def verdict(self, status: Status, what: str) -> None:
        """Print the status at the end of a run."""
        self.console.print()
        self.console.print(Text.assemble("  ", (status, f"bold {tone(status)}"), f" {what}"))

    def hint(self, text: str) -> None:
        """Print what to do next, dimmed."""
        self.console.print()
        self.console.print(Padding(Text(text, style="dim"), (0, 0, 0, 2), expand=False))

    def settled(self, view: AgentView) -> None:
        """Print the status of an agent that does not move any more, and what to do next."""
        self.verdict(view.status, f"Agent {view.agent_id}")
        if view.error:
            self.console.print(_grid([("error", Text(f"{view.error.name}: {outcome(view.error.message)}"))]))
        if view.status is Status.WAITING_FOR_INPUT:
            self.hint(f'`turnstile input {view.agent_id} "…"` answers it.')
        elif view.status is Status.WAITING_FOR_APPROVAL:
            self.hint(f"`turnstile approve {view.agent_id}` decides about what it asks for.")
        elif view.status is Status.WAITING_FOR_AGENT:
            self.hint(f"It waits for {counted(len(view.children or []), 'agent')}, and a person has to act for them.")
        elif view.status is Status.WAITING_FOR_OPERATOR:
            self.hint(f"`turnstile decide {view.agent_id} RETRY|REPLAN|COMPENSATE|ABORT` decides how it goes on.")
        else:
            self.hint(f"`turnstile show {view.agent_id}` and `turnstile trace {view.agent_id}` tell more.")

    def agent(self, view: AgentView) -> None:
        """Print an agent's record."""
        metadata = view.metadata
        rows: list[tuple[str, RichText]] = [
            ("agent", Text(view.agent_id)),
            ("status", Text(view.status, style=tone(view.status))),
            ("goal", Text(view.goal)),
            *((label, Text(text)) for label, text in _verdict(view)),
            *([("asks", _approval(view.approval))] if view.approval else []),
            *([("parent", Text(view.parent))] if view.parent else []),
            *([("agents", Text("\n").join(map(Text, view.children)))] if view.children else []),
            ("kind", Text(f"{view.agent}, version {view.definition_version}")),
            (
                "work",
                Text(
                    f"{counted(metadata.invocation_count, 'turn')}, {counted(metadata.model_calls, 'decision')}, "
                    f"{counted(metadata.tool_calls, 'tool call')}"
                    + (f", {counted(metadata.error_count, 'failed turn')}" if metadata.error_count else "")
                ),
            ),
            (
                "tokens",
                Text(f"{metadata.tokens.input:,} in, {metadata.tokens.output:,} out, ${metadata.cost_usd:.4f}"),
            ),
            ("created", Text.assemble(_when(metadata.created_at), _by(view.caller))),
            ("updated", Text(_when(metadata.last_updated))),
        ]
        self.console.print(_grid(rows))

    def plan(self, view: AgentView) -> None:
        """Print the plan and the calls of an agent."""
        table = _table("", "Step", "Status")
        for entry in view.plan:
            what = _call_text(entry.tool_name, entry.parameters or {}) if entry.tool_name else Text(entry.action)
            if entry.error:
                what.append(f"\n{entry.error}", style="red")
            if entry.undo_error:
                what.append(f"\n{entry.undo_error}", style="red")
            if entry.unsettled:
                what.append(f"\nnot settled: {entry.unsettled}", style="red")
            table.add_row(str(entry.step), what, entry.status)
        self.console.print(Padding(table, (0, 0, 0, 2)))

    def conversation(self, view: AgentView) -> None:
        """Print the conversation."""
        looks = {"user": ("user", "bold"), "assistant": ("model", ""), "tool_output": ("tool", "dim")}
        rows = [
            (
                looks[message.role][0],
                Text.assemble((_short(message.content), looks[message.role][1]), _by(message.caller)),
            )
            for message in view.context.conversation_history
        ]
        self.console.print(_grid(rows))

    def recoveries(self, state: AgentState, record: Record) -> None:
        """Print a line for each recovery; nothing if there was none."""
        found = [(entry.step, entry.recovery) for entry in read_journal(record) if entry.recovery]
        if found:
            self.title("Recoveries")
        for step, recovery in found:
            line = self._recovery(step, recovery, state, self.console.width - 4)
            self.console.print(Text.assemble((f"{step:>3} ", "dim"), line))

    def agents(self, agents: Sequence[ListedAgent]) -> None:
        """Print two or three lines per agent. The goal is cut; the id is not, so that it can be copied."""
        width = max(len(agent.status) for agent in agents)
        for agent in agents:
            # Without seconds, so that the id of a child fits behind it on a terminal of 80 columns.
            when = f"{_utc(agent.last_updated):%Y-%m-%d %H:%MZ}"
            head = Text.assemble((f"{agent.status:<{width}}", tone(agent.status)), (f"  {when}", "dim"))
            name = Text(agent.agent_id, style="bold")
            if head.cell_len + 2 + name.cell_len <= self.console.width:
                lines = [Text.assemble(head, "  ", name)]
            else:
                lines = [head, Text.assemble("  ", name)]
            goal = Text.assemble("  ", (f"{agent.error}  " if agent.error else "", "red"), " ".join(agent.goal.split()))
            goal.truncate(self.console.width, overflow="ellipsis")
            for line in (*lines, goal):
                self.console.print(line, soft_wrap=True)

    def visited(self, run: Run) -> None:
        """Print an execution in a few lines: its machine, and how often it visited each state."""
        times = Counter(visit.state for visit in run.visits)
        states = " · ".join(state if count == 1 else f"{state} ×{count}" for state, count in times.items())
        style = "red" if run.execution.error else "bold"
        self.console.print(Padding(Text(f"{run.execution.machine}  {run.execution.status}", style=style), (0, 0, 0, 2)))
        self.console.print(Padding(Text(states, style="dim"), (0, 0, 0, 4)))

    def sample(self, layout: Layout) -> None:
        """Show what the sample's tables hold."""
        self.title(layout.title)
        table = _table(*layout.columns)
        for row in layout.rows:
            table.add_row(*row)
        self.console.print(Padding(table, (0, 0, 0, 2), expand=False))
        self.line()
        for line in layout.lines:
            self.line(f"  {line}")

    def roles(self, uses: Iterable[tuple[str, Sequence[str], int]]) -> None:
        """Show of each role the actions that were needed, and how many permissions it has."""
        table = _table("Role", "Needed", "Granted")
        for role, needed, granted in uses:
            table.add_row(role, ", ".join(needed), str(granted))
        self.console.print(Padding(table, (0, 0, 0, 2), expand=False))

    def approval(self, approval: ApprovalView) -> None:
        """Print the calls that wait for approval."""
        self.console.print(_grid([("asks", _approval(approval))]))

    def standing(self, view: AgentView) -> None:
        """Print the effects of a cancelled agent that are not undone; or that the agent has yet to stop."""
        writes = {tool.name for tool in view.tools if tool.effect == "write"}
        rows: list[tuple[str, RichText]] = [("agent", Text(f"{view.agent_id} {view.status}"))]
        for each in view.plan:
            if each.tool_name in writes and each.status in _STANDING:
                doubt = ("", "") if each.status in _DONE else (f" {each.status}", "red")
                rows.append(("stands", _call_text(each.tool_name or "", each.parameters or {}).append(*doubt)))
                if each.undo_error:
                    rows.append(("", Text(each.undo_error, style="red")))
                if each.unsettled:
                    rows.append(("", Text(f"not settled: {each.unsettled}", style="red")))
        if view.status not in FINISHED:
            rows.append(("", Text("has yet to stop")))
        elif len(rows) == 1:
            rows.append(("", Text("nothing that it did stands")))
        self.console.print(_grid(rows))

    def everybody(self, agents: Sequence[WatchedAgent]) -> Table:
        """Build a live table with a line per agent."""
        table = _table("Status", "Step", "Agent", "Goal", "Waits for")
        for column in table.columns[:3]:
            column.no_wrap = True  # only the other columns shrink
        for agent in agents:
            goal, waits_for = (
                Text(" ".join(text.split()), no_wrap=True, overflow="ellipsis")
                for text in (agent.goal, agent.waits_for)
            )
            status = Text(agent.status, style=tone(agent.status))
            table.add_row(status, str(agent.step), agent.agent_id, goal, waits_for)
        return table

    def one_line(self, agent: WatchedAgent) -> RichText:
        """Describe an agent in one line, for a list that only grows."""
        what = " ".join((agent.waits_for or agent.goal).split())
        return Text.assemble((f"{agent.status:<24}", tone(agent.status)), f" {agent.step:>3}  {agent.agent_id}  {what}")

    def inconsistencies(self, verdict: VerifyReport) -> None:
        """Print the findings of `turnstile verify`; one line if there are none."""
        agents = counted(verdict.agents, "agent")
        if not verdict.findings:
            self.line(f"{agents}, nothing inconsistent")
            return
        for finding in verdict.findings:
            place = (finding.agent_id or "inventory", "bold"), f"  {finding.record}  ", (finding.kind, "red")
            self.line(Text.assemble(*place))
            self.console.print(Padding(Text(finding.text), (0, 0, 0, 2)))
        self.console.print()
        self.line(f"{agents}, {counted(len(verdict.findings), 'finding')}")

    def _recovery(self, step: int, recovery: Recovery, state: AgentState, width: int) -> RichText:
        """Describe a recovery on one line. STATE keeps the error's message until the next turn begins."""
        message = state.error_message if (step, recovery.reason) == (state.step, state.error) else ""
        return recovery_line(recovery.reason, message, (recovery.action, recovery.status), width)

    def _entry(self, entry: Entry, state: AgentState, blank: bool) -> None:
        said: list[tuple[str, RichText]] = [("child", Text(_short(text))) for text in entry.reported]
        said += [("user", Text.assemble((words.text, "bold"), _by(words.caller))) for words in entry.heard]
        decision = entry.decision
        if decision:
            model: list[RichText] = [Text(text) for text in entry.said] if entry.uses or not decision.reflection else []
            if decision.reflection:
                model.append(Text(decision.reflection, style="italic"))
            model += [_call_line(call) for call in decision.calls]
            for child in decision.children:
                model.append(
                    Text.assemble("→ ", (child.agent, "cyan"), f": {child.goal}\n", (f"  {child.agent_id}", "dim"))
                )
            if decision.action in ("PLAN", "REPLAN"):
                model += [Text(f"{_MARKS[step.status]} {step.action}") for step in state.plan]
            model += [Text.assemble(("✗ ", "red"), text) for text in corrections(decision)]
            if decision.action in ("ASK_USER", "COMPLETE", "GIVE_UP"):
                model.append(Text(decision.message, style="bold"))
            said.append(("model", Text("\n").join(model)))
            self._calls = decision.calls
        for index, result in enumerate(entry.results):
            name = self._calls[index].name if index < len(self._calls) else f"call {index}"
            good = result.outcome is Outcome.COMMITTED
            mark = ("✓ ", "green") if good else ("✗ ", "red")
            answer = _fields(result.value) if good else outcome_text(result)
            said.append(("tool", Text.assemble(mark, (name, "cyan"), f" {_short(answer)}")))
        if recovery := entry.recovery:
            caller = caller_of(recovery.by, recovery.source)
            said.append(("recover", self._recovery(entry.step, recovery, state, self.console.width - 12 - self._inset)))
            words = [
                ("decided", caller.text if caller else ""),
                ("note", recovery.note),
                ("told", recovery.text),
                ("asks", recovery.question),
            ]
            said += [(label, Text(text, style="bold" if label == "asks" else "")) for label, text in words if text]
        if blank:
            self.console.print()
        number = str(entry.step)
        for who, text in said:
            self.console.print(_grid([(who, text)], number, self._inset))
            number = ""


def outcome(cause: str) -> str:
    """Return the message in an error's cause on one line, cut to `RESULT_LENGTH` characters."""
    return _short(" ".join(reason(cause).split()))


def recovery_line(error: str, message: str, then: Sequence[str], width: int) -> RichText:
    """Describe a recovery on one line: the error that it handles, then what it did. The error's message gives way."""
    end = "".join(f" → {each}" for each in then)
    line = Text(f"{error}: {' '.join(reason(message).split())}" if message else error)
    line.truncate(max(width - cell_len(end), len(error)), overflow="ellipsis")
    return line.append(end)


def print_json(value: Any) -> None:
    """Write a JSON document as one line on stdout."""
    sys.stdout.write(visible_json(json.dumps(value, ensure_ascii=False, default=str)) + "\n")
    sys.stdout.flush()


def _by(caller: Caller | None) -> tuple[str, str]:
    """Return the caller's name, dimmed, to print after its words; empty if the event names no caller."""
    return (f"  {caller.text}" if caller else "", "dim")


def _verdict(view: AgentView) -> list[tuple[str, str]]:
    """Return the rows with the agent's result, its question and its error, as far as it has them."""
    rows = [("result", view.result), ("asks", view.question)]
    rows.append(("error", f"{view.error.name}: {outcome(view.error.message)}" if view.error else None))
    return [(label, text) for label, text in rows if text]


def _grid(rows: Sequence[tuple[str, RichText]], number: str = "", inset: int = 0) -> Padding:
    """Lay out labels on the left and wrapped text on the right."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=2, justify="right", style="dim")
    grid.add_column(width=7, style="dim")
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(number, label, text)
    return Padding(grid, (0, 0, 0, 1 + inset), expand=False)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _call_text(name: str, arguments: dict[str, Any]) -> RichText:
    given = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    return Text.assemble((name, "cyan"), f"({given})")


def _call_line(call: Call) -> RichText:
    line = Text.assemble("→ ", _call_text(call.name, call.input))
    if call.approval:
        line.append(" needs approval", style="yellow")
    for other in call.alternatives:
        line.append(f"\n  if that is unavailable: {other.name}", style="dim")
    return line


def _approval(approval: ApprovalView) -> RichText:
    """Describe an approval, a line for each call; a call that needs no approval itself is marked."""
    lines = []
    for call in approval.calls:
        line = _call_text(call.tool_name, call.parameters).append(f" by {call.function}", style="dim")
        lines.append(line if call.approval else line.append(" along with it", style="dim"))
        for other in call.alternatives:
            line = Text.assemble(("  if that is unavailable: ", "dim"), _call_text(other.tool_name, other.parameters))
            lines.append(line.append(f" by {other.function}", style="dim"))
    return Text("\n").join([Text(f"approval {approval.approval_id} of"), *lines])


def _fields(value: Any) -> str:
    """Write a tool's result for a person."""
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(
        f"{name} {each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)}"
        for name, each in value.items()
    )


def _short(text: str) -> str:
    return text if len(text) <= RESULT_LENGTH else f"{text[:RESULT_LENGTH]} …"


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as `2 turns`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _when(text: str) -> str:
    return f"{_utc(text):%Y-%m-%d %H:%M:%S UTC}"


def _utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
