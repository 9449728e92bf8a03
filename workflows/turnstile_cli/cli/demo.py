"""The demo: plays one scenario on its own stack, and shows each step as it happens."""

import datetime as dt
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field

from turnstile_agents.events import AgentRequested
from turnstile_agents.items import AgentState
from turnstile_agents.journal import Entry
from turnstile_agents.record import Model, Status
from turnstile_agents.view import AgentView
from turnstile_cli.cli.console import Reporter, Screen
from turnstile_cli.engines.embedded import FOLDER, Connection
from turnstile_cli.engines.start import Start, start_embedded
from turnstile_cli.local.permissions import needs, read_grants
from turnstile_cli.local.stack import local_stack
from turnstile_cli.machines.trace import Run, visits
from turnstile_cli.models.scenarios import Scenario, ScenarioError, load_scenarios
from turnstile_cli.stack.client import Stack, StackError
from turnstile_cli.stack.sample import Rows, load_sample
from turnstile_cli.stack.shapes import Change, Sent

END_SECONDS = 15
"""Seconds that an execution may take to end after its agent has settled."""
_CHECKPOINTS = ("CreateAgent", "CheckpointDecision", "CheckpointResults", "RecordRecovery")
"""The states that write an entry of the journal."""


class RoleUse(Model):
    """The permissions that a demo needed of a role, and how many permissions the role has."""

    role: str
    needed: Annotated[list[str], Field(description="Each action, without which a call would have been refused")]
    granted: Annotated[int, Field(description="How many permissions the role has")]


class DemoReport(Model):
    """The result of a demo."""

    scenario: str
    agent: AgentView
    children: Annotated[list[AgentView], Field(description="The agents below it: its children, and their children")]
    sample: Annotated[Rows, Field(description="The rows that the calls made in the sample's tables")]
    runs: list[Run]
    transitions: int
    seconds: float
    others: Annotated[list[str], Field(description="The scenarios that were not played")]
    roles: Annotated[list[RoleUse], Field(description="The use of each role, if it was asked for")] = []


def find_scenario(scenarios: Sequence[Scenario], name: str) -> Scenario:
    """Return the scenario with this name. Raise ScenarioError if there is none."""
    for scenario in scenarios:
        if scenario.name == name:
            return scenario
    known = ", ".join(scenario.name for scenario in scenarios) or "none"
    raise ScenarioError(f"There is no scenario {name}; the scenarios are: {known}")


def play(name: str, reporter: Reporter, start: Start = start_embedded, iam: bool = False) -> DemoReport:
    """Play a scenario on a stack of its own: `start` starts it, and it is removed afterwards. `iam`: report the roles.

    Raise EngineError, ScenarioError or StackError; then the engine's log stays in its folder.
    """
    scenarios = load_scenarios()
    scenario = find_scenario(scenarios, name)
    reporter.title(f"Turnstile plays {scenario.name}: {scenario.title}")
    with (
        _folder() as folder,
        local_stack(scenarios, folder, scenario.agent, scenario.limits, reporter.progress, start=start) as local,
    ):
        others = [other.name for other in scenarios if other is not scenario]
        report = _play(local.stack, scenario, others, reporter)
        return report.model_copy(update={"roles": list(_roles(local.engine))}) if iam else report


def _play(stack: Stack, scenario: Scenario, others: list[str], reporter: Reporter) -> DemoReport:
    reporter.title("What happens")
    begun = time.monotonic()
    sent = stack.request(AgentRequested(prompt=scenario.prompt, agent=scenario.agent))
    family = _Family(stack, scenario, reporter)
    family.live(sent)
    seconds = time.monotonic() - begun
    rows = load_sample().rows(stack)
    runs = list(_finished_runs(stack))
    family.states[sent.agent_id].tell(reporter)
    return DemoReport(
        scenario=scenario.name,
        agent=stack.view(sent.agent_id),
        children=[stack.view(agent_id) for agent_id in family.states if agent_id != sent.agent_id],
        sample=rows,
        runs=runs,
        transitions=sum(run.transitions for run in runs),
        seconds=round(seconds, 2),
        others=others,
    )


def show_report(report: DemoReport, screen: Screen) -> None:
    """Show the result of a demo."""
    screen.title("What the record holds")
    screen.agent(report.agent)
    for child in report.children:
        screen.line()
        screen.agent(child)
    if any(report.sample.values()):
        screen.sample(load_sample().layout(report.sample))
    screen.title("Which states were visited")
    for run in report.runs:
        screen.visited(run)
    if report.roles:
        screen.title("Which permissions were needed")
        screen.roles([(use.role, use.needed, use.granted) for use in report.roles])
    screen.verdict(
        report.agent.status,
        f"in {report.seconds:.1f} s, with {report.transitions} state transitions in {len(report.runs)} executions.",
    )
    screen.hint(f"`turnstile demo --scenario NAME` plays another: {', '.join(report.others)}.")
    screen.hint("`turnstile up` keeps a stack running for `turnstile start`, `list`, `show`, `trace` and the others.")


def _roles(engine: Connection) -> Iterator[RoleUse]:
    """Yield the use of each role that the engine was asked for."""
    asked = engine.asked()
    grants = read_grants(engine)
    for role in sorted({grant.role for grant in grants}):
        mine = [grant for grant in grants if grant.role == role]
        needed = sorted({grant.action for grant in mine if needs(grant, asked)})
        if needed:
            yield RoleUse(role=role, needed=needed, granted=len(mine))


class _Family:
    """An agent and the agents below it, with the scenario's inputs and decisions for them."""

    def __init__(self, stack: Stack, scenario: Scenario, reporter: Reporter) -> None:
        self.states: dict[str, _States] = {}
        self._stack = stack
        self._reporter = reporter
        self._inputs = iter(scenario.inputs)
        self._decisions = iter(scenario.decisions)

    def live(self, sent: Sent | None) -> None:
        """Report an agent's life until it stays where it is. The lives of its children are reported one by one."""
        step = 0
        while sent:
            self._stack.wait_for(sent)
            agent_id = sent.agent_id
            states = self.states.setdefault(agent_id, _States(self._stack))
            for change in self._stack.watch(agent_id, since=step):
                self._reporter.change(change, [states.before(entry) for entry in change.entries])
                step = change.state.step
                if change.status is Status.WAITING_FOR_AGENT:
                    states.tell(self._reporter)
                    self._children(change.state)
            sent = self._answer(change)
            if sent:
                states.tell(self._reporter)

    def _children(self, parent: AgentState) -> None:
        for child in parent.children:
            if child in self.states:
                continue
            start = self._stack.outputs.agent_start_arn
            requested = Sent(child, child, start, dt.datetime.now(dt.UTC), "request", known_as=child)
            self._stack.wait_for(requested)
            state, _ = self._stack.read_agent(child)
            with self._reporter.child(state):
                self.live(requested)
                self.states[child].tell(self._reporter)

    def _answer(self, change: Change) -> Sent | None:
        """Send the answer that the agent waits for. Return None if the scenario has no answer for it."""
        agent_id = change.state.agent_id
        if change.status is Status.WAITING_FOR_INPUT and (text := next(self._inputs, "")):
            return self._stack.send_input(agent_id, text)
        if change.status is Status.WAITING_FOR_APPROVAL and (ruling := next(self._decisions, None)):
            return self._stack.decide_approval(agent_id, change.state.waits_for, ruling.decision, ruling.note)
        return None


class _States:
    """The states that the executions of an agent have visited; each is reported once."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._told: dict[str, int] = {}
        self._last = ""

    def before(self, entry: Entry) -> list[str]:
        """Return the states that led to an entry, its checkpoint included."""
        rest = self.rest() if entry.execution != self._last else []
        self._last = entry.execution
        new = self._new()
        end = next((place for place, state in enumerate(new, 1) if state in _CHECKPOINTS), len(new))
        self._told[self._last] = self._told.get(self._last, 0) + end
        return rest + new[:end]

    def tell(self, reporter: Reporter) -> None:
        """Report the states since the last entry."""
        reporter.states(self.rest())

    def rest(self) -> list[str]:
        """Return the states that the execution has visited since its last entry."""
        new = self._new()
        self._told[self._last] = self._told.get(self._last, 0) + len(new)
        return new

    def _new(self) -> list[str]:
        found = visits(self._stack.history(self._last)) if self._last else []
        return [visit.state for visit in found][self._told.get(self._last, 0) :]


def _finished_runs(stack: Stack) -> Iterator[Run]:
    """Yield every execution that has worked on an agent; the stack has only this family of agents."""
    outputs = stack.outputs
    deadline = time.monotonic() + END_SECONDS
    machines = (outputs.agent_start_arn, outputs.agent_input_arn, outputs.agent_turn_arn, outputs.agent_recovery_arn)
    for machine in machines:
        for arn in stack.execution_arns(machine):
            while (execution := stack.execution(arn)) and execution.status == "RUNNING":
                if time.monotonic() > deadline:
                    raise StackError(f"The agent has settled, but {arn} still runs after {END_SECONDS} seconds")
                time.sleep(0.05)
            if execution:
                yield stack.run(execution)


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder for this demo. It is kept only after an error: the log in it tells more."""
    folder, keep = FOLDER / f"demo-{os.getpid()}", False
    try:
        yield folder
    except Exception:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
