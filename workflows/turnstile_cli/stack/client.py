"""A deployed stack, seen from outside: through its outputs and the AWS APIs."""

import datetime as dt
import getpass
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from turnstile_agents.border import read_json
from turnstile_agents.conversation import reason
from turnstile_agents.definition import Definition
from turnstile_agents.errors import RecordTooNew
from turnstile_agents.events import SOURCE, AgentCancelRequested, AgentDecisionGiven, AgentInputReceived, AgentRequested
from turnstile_agents.items import AgentState, ListedState, Record
from turnstile_agents.journal import Entry, read_journal
from turnstile_agents.record import BY_LIMIT, FINISHED, GOAL_LIMIT, SETTLED, Model, Status, Verdict
from turnstile_agents.table import AgentTable
from turnstile_agents.view import AgentView, public_view
from turnstile_cli.engines.embedded import Connection
from turnstile_cli.engines.failure import failure
from turnstile_cli.machines.trace import Execution, Run, transitions, visits
from turnstile_cli.stack.shapes import Change, ListedAgent, Outputs, Sent, WatchedAgent, summary_of, waits_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_stepfunctions import SFNClient

INTERVAL = 0.2
"""Seconds between two looks at an agent."""
_BATCH = 25
"""The largest number of requests in one BatchWriteItem."""
CHECK_INTERVAL = 1.0
"""Seconds between two looks at an execution; AWS throttles this call sooner than reads of the table."""
_TELLING = frozenset(status for status in Status if status.startswith("WAITING_")) | {Status.FAILED}
"""The statuses in which the record says more about an agent than the index."""


class StackError(Exception):
    """A stack cannot carry out a request; the message says what was wrong and what to do."""


class UnknownAgent(StackError):
    """No agent has this id."""


class RequestRefused(StackError):
    """The machine that takes an event in failed; `error`, `cause` and `execution` are of that execution."""

    def __init__(self, what: str, error: str, cause: str, execution: str) -> None:
        super().__init__(f"{what} was refused. {error}: {reason(cause)}")
        self.error = error
        self.cause = cause
        self.execution = execution


class TurnDied(StackError):
    """The execution that holds the agent's lease ended without freeing it; no execution works on the agent."""


def user_name() -> str:
    """Return the name of this machine's user; empty if the system has none."""
    try:
        return getpass.getuser()[:BY_LIMIT]
    except (KeyError, OSError):
        return ""


class Stack:
    """A deployed stack. Its methods raise StackError, and botocore's errors when AWS refuses or cannot be reached."""

    def __init__(self, name: str, outputs: Mapping[str, str], client: Callable[[str], Any]) -> None:
        """Read the outputs. `client` makes the boto3 client of a service.

        Raise StackError if an output is missing.
        """
        try:
            self.outputs = Outputs.model_validate(outputs)
        except ValidationError as error:
            missing = ", ".join(str(problem["loc"][0]) for problem in error.errors())
            raise StackError(
                f"The stack {name} has no output {missing}; it was not deployed from this template.yaml"
            ) from error
        self.name = name
        self.all_outputs = dict(outputs)
        """Every output of the template by its name, the sample's included."""
        self.by = user_name()
        """The name under which this client starts agents, speaks to them and decides; unverified, shown as a claim."""
        self.client = client
        self.dynamodb: DynamoDBClient = client("dynamodb")
        self.events: EventBridgeClient = client("events")
        self.lambdas: LambdaClient = client("lambda")
        self.stepfunctions: SFNClient = client("stepfunctions")
        self.table = AgentTable(self.dynamodb, self.outputs.table_name)

    @classmethod
    def embedded(cls, connection: Connection) -> "Stack":
        """Return the stack of an embedded engine."""
        return cls(connection.running.stack, connection.outputs, connection.client)

    @classmethod
    def named(cls, name: str) -> "Stack":
        """Return a stack in the AWS account that the environment names (`AWS_PROFILE`, `AWS_DEFAULT_REGION`, …).

        Raise StackError if the stack cannot be read or does not exist.
        """
        try:
            session = boto3.Session()
            stacks = session.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            message = error.response["Error"]["Message"]
            raise StackError(f"The stack {name} cannot be read: {message}") from error
        except BotoCoreError as error:
            advice = "Set AWS_PROFILE and AWS_DEFAULT_REGION; without --stack the embedded engine is used"
            raise StackError(f"The stack {name} cannot be read: {str(error).rstrip('.')}. {advice}") from error
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}
        return cls(name, outputs, lambda service: session.client(service))  # type: ignore[call-overload]

    # ---- Events

    def request(self, requested: AgentRequested) -> Sent:
        """Request an agent. The bus may accept the event, but the agent may still be refused: see `wait_for`."""
        goal = requested.prompt if requested.goal is None else requested.goal
        if len(goal.encode()) > GOAL_LIMIT:
            raise StackError(f"The goal has more than {GOAL_LIMIT} bytes; give a short goal beside a long prompt")
        at = dt.datetime.now(dt.UTC)
        named = requested.model_copy(update={"by": requested.by or self.by})
        event_id = self.put("AgentRequested", named)
        start, known_as = self.outputs.agent_start_arn, requested.request_id or ""
        return Sent(event_id, requested.agent_id or event_id, start, at, "request", known_as)

    def send_input(self, agent_id: str, text: str) -> Sent:
        """Send a text to an agent. `wait_for` tells whether the agent accepts it."""
        return self._bring(agent_id, "input", AgentInputReceived(agent_id=agent_id, text=text, by=self.by))

    def decide_approval(self, agent_id: str, approval_id: str, decision: Verdict, note: str = "") -> Sent:
        """Decide about calls that wait for approval. `wait_for` tells whether they still waited."""
        given = AgentDecisionGiven(agent_id=agent_id, approval_id=approval_id, decision=decision, note=note, by=self.by)
        return self._bring(agent_id, "decision", given)

    def cancel(self, agent_id: str, note: str = "") -> Sent:
        """Ask an agent to stop. `wait_for` waits until the request is in its record, `watch` until it has stopped."""
        return self._bring(agent_id, "cancellation", AgentCancelRequested(agent_id=agent_id, note=note, by=self.by))

    def put(self, detail_type: str, detail: Model) -> str:
        """Put an event on the bus and return its id. Raise StackError if the bus does not take it."""
        answer = self.events.put_events(
            Entries=[
                {
                    "Source": SOURCE,
                    "DetailType": detail_type,
                    "EventBusName": self.outputs.bus_name,
                    # Leave out a field without a value: the machine checks which fields are present.
                    "Detail": detail.model_dump_json(by_alias=True, exclude_none=True),
                }
            ]
        )
        entry = answer["Entries"][0]
        if answer["FailedEntryCount"]:
            code, message = entry.get("ErrorCode", "no code"), entry.get("ErrorMessage", "no message")
            raise StackError(f"The bus {self.outputs.bus_name} did not take {detail_type}. {code}: {message}")
        return entry["EventId"]

    def wait_for(self, sent: Sent, timeout: float = 60) -> None:
        """Wait until an event is in the agent's record: from then on, the agent will act on it.

        Raise RequestRefused if the machine refused the event, StackError if it is not there after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        check = time.monotonic() + CHECK_INTERVAL / 2
        while not self._arrived(sent):
            if time.monotonic() > check:
                self._raise_refusal(sent)
                check = time.monotonic() + CHECK_INTERVAL
            if time.monotonic() > deadline:
                raise StackError(
                    f"The event {sent.event_id} was put on the bus {self.outputs.bus_name} and had no result within "
                    f"{timeout:.0f} seconds; look at the executions of {sent.machine}"
                )
            time.sleep(INTERVAL)

    # ---- Agents

    def read_agent(self, agent_id: str) -> tuple[AgentState, Record]:
        """Return the agent and its whole record.

        Raise UnknownAgent if there is no such agent, StackError if its record cannot be read.
        """
        try:
            record = self.table.record(agent_id)
        except (ValueError, RecordTooNew) as error:
            raise StackError(
                f"The record of agent {agent_id} cannot be read; `turnstile verify {agent_id}` says why: {error}"
            ) from error
        if record.state is None:
            raise self.unknown(agent_id)
        return record.state, record

    def view(self, agent_id: str) -> AgentView:
        """Return the agent's public view. Raise UnknownAgent if there is no such agent."""
        return self.view_of(*self.read_agent(agent_id))

    def view_of(self, state: AgentState, record: Record) -> AgentView:
        """Return the public view of an agent that has been read."""
        return public_view(state, record, self.definition(state.agent, state.definition_version))

    def agents(self, status: Status | None = None) -> list[ListedAgent]:
        """Return the agents in a status, or all agents, the last updated first."""
        wanted = [status] if status else Status
        found = (summary_of(listed) for each in wanted for listed in self.table.in_status(each))
        return sorted(found, key=lambda agent: agent.last_updated, reverse=True)

    def watch_all(self) -> Iterator[list[WatchedAgent]]:
        """Yield all agents whenever an agent has changed, the last updated first, for ever.

        Agents that were already finished when the watch began are left out.
        """
        begun = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        seen: list[WatchedAgent] | None = None
        known: dict[str, WatchedAgent] = {}
        while True:
            since = {status: begun if status in FINISHED else "0" for status in Status}
            listed = [each for status in Status for each in self.table.in_status(status, since[status])]
            # An agent whose status changes between two of these queries is in both results, or in neither of them: the
            # next look then finds it.
            found = {each.agent_id: each for each in sorted(listed, key=lambda each: each.last_updated)}
            known = {agent_id: self._standing(each, known.get(agent_id)) for agent_id, each in found.items()}
            standing = [*known.values()][::-1]
            if standing != seen:
                yield standing
                seen = standing
            time.sleep(CHECK_INTERVAL)

    def watch(self, agent_id: str, since: int = 0, timeout: float = 900, to_the_end: bool = False) -> Iterator[Change]:
        """Follow an agent until it stays where it is: yield a Change whenever its record has changed.

        The journal's entries are given from the step after `since` on. The agent stays where it is when a person has to
        act (`record.SETTLED`), for it or for the children that it waits for. With `to_the_end`, the watch ends only
        when the agent is finished. Raise UnknownAgent; TurnDied if the agent's turn ended without freeing the lease, so
        that the agent does not move; StackError if the watch has not ended after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        check = time.monotonic() + CHECK_INTERVAL
        seen: tuple[str, int] | None = None
        while True:
            state = self.table.state(agent_id)
            if state is None:
                raise self.unknown(agent_id)
            if (state.status, state.step) != seen:
                # Every entry up to STATE's step is there: both are written in one transaction.
                yield Change(state, self._entries(state, since + 1))
                seen, since = (state.status, state.step), max(since, state.step)
                check = time.monotonic() + CHECK_INTERVAL
            if state.status in (FINISHED if to_the_end else SETTLED):
                return
            if time.monotonic() > check:
                if not to_the_end and self._stands(state):
                    return
                self._raise_dead(state)
                check = time.monotonic() + CHECK_INTERVAL
            if time.monotonic() > deadline:
                raise StackError(f"Agent {agent_id} is still {state.status} after {timeout:.0f} seconds of watching")
            time.sleep(INTERVAL)

    # ---- Definitions and other tables

    def definition(self, name: str, version: int) -> Definition:
        """Return a version of a registered definition. Raise StackError if it is not registered."""
        definition = self.table.definition(name, version)
        if definition is None:
            raise StackError(f"The stack {self.name} has no version {version} of the agent {name}")
        return definition

    def write_batches(self, table: str, requests: Sequence[Any]) -> None:
        """Send put and delete requests to a table, until it has taken all of them."""
        for start in range(0, len(requests), _BATCH):
            left: Any = requests[start : start + _BATCH]
            while left:
                left = self.dynamodb.batch_write_item(RequestItems={table: left})["UnprocessedItems"].get(table)

    # ---- Executions

    def executions(self, record: Record) -> list[Execution]:
        """Return the executions that an agent's record names, in order of their start.

        These are the executions that wrote its journal and its inputs, and the execution that last wrote STATE. An
        execution that AWS no longer keeps is left out.
        """
        arns = {each.execution for each in (*record.steps, *record.inputs)}
        if record.state:
            arns.add(record.state.last_updated_by)
        found = [execution for execution in map(self.execution, sorted(arns)) if execution]
        return sorted(found, key=lambda execution: execution.started)

    def trail(self, record: Record) -> list[Execution]:
        """Return the executions of an agent in order of their start, with the turns numbered.

        These are its `executions`, and the turns and recoveries that failed before they wrote into the record: a
        recovery's event names them.
        """
        outputs = self.outputs
        turn, recovery = (arn.rpartition(":")[2] for arn in (outputs.agent_turn_arn, outputs.agent_recovery_arn))
        found = self.executions(record)
        known = {execution.arn for execution in found}
        for execution in found:  # the list grows: a recovery that failed has an event too
            named = _failed_execution(execution) if execution.machine == recovery else ""
            # Anyone who may put events can send such an event: it leads only to this stack's own executions.
            if named.split(":")[6:7] in ([turn], [recovery]) and named not in known:
                known.add(named)
                found += filter(None, [self.execution(named)])
        numbers = count(1)
        return [
            each.model_copy(update={"turn": next(numbers)}) if each.machine == turn else each
            for each in sorted(found, key=lambda execution: execution.started)
        ]

    def execution(self, arn: str) -> Execution | None:
        """Return an execution; None if AWS does not keep it, or never had it."""
        try:
            answer = self.stepfunctions.describe_execution(executionArn=arn)
        except self.stepfunctions.exceptions.ExecutionDoesNotExist:
            return None
        error, cause = failure(self.stepfunctions, answer)
        return Execution(
            arn=arn,
            machine=answer["stateMachineArn"].rpartition(":")[2],
            status=answer["status"],
            started=answer["startDate"],
            stopped=answer.get("stopDate"),
            input=read_json(answer["input"]),
            error=error,
            cause=cause,
        )

    def refusals(self, name: str, since: dt.datetime | None = None) -> list[Execution]:
        """Return the failed executions of agent_start whose request has this agent id, or whose event has this id."""
        return [
            execution
            for execution in self._failed(self.outputs.agent_start_arn, since)
            if name in (execution.event.get("id"), execution.event.get("detail", {}).get("agentId"))
        ]

    def execution_arns(self, machine: str) -> list[str]:
        """Return the ARN of every execution of a machine, oldest first. Use it only if there are few executions."""
        pages = self.stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=machine)
        return [execution["executionArn"] for page in pages for execution in page["executions"]][::-1]

    def run(self, execution: Execution) -> Run:
        """Return an execution with the states that it has visited so far."""
        visited = visits(self.history(execution.arn))
        return Run(execution=execution, visits=visited, transitions=transitions(visited))

    def history(self, arn: str, data: bool = True) -> list[dict[str, Any]]:
        """Return the events of an execution, oldest first, in the shape of GetExecutionHistory.

        `data`: whether with inputs and outputs.
        """
        pages = self.stepfunctions.get_paginator("get_execution_history").paginate(
            executionArn=arn, includeExecutionData=data
        )
        return [dict(event) for page in pages for event in page["events"]]

    # ----

    def _bring(self, agent_id: str, what: str, detail: Model) -> Sent:
        at = dt.datetime.now(dt.UTC)
        return Sent(self.put(type(detail).__name__, detail), agent_id, self.outputs.agent_input_arn, at, what)

    def _arrived(self, sent: Sent) -> bool:
        if sent.what == "request":
            state = self.table.state(sent.agent_id)
            return state is not None and state.created_by == sent.key
        if self.table.input(sent.agent_id, sent.key):
            return True
        # A finished agent cannot be cancelled any more, and its record does not keep the request.
        state = self.table.state(sent.agent_id) if sent.what == "cancellation" else None
        return state is not None and state.status in FINISHED

    def _raise_refusal(self, sent: Sent) -> None:
        for execution in self._failed(sent.machine, sent.at):
            if execution.event.get("id") == sent.event_id:
                raise RequestRefused(f"The {sent.what}", execution.error, execution.cause, execution.arn)

    def _stands(self, state: AgentState) -> bool:
        """Return True if a person outside has to act, for the agent or for every unfinished child, before it moves."""
        if state.status is not Status.WAITING_FOR_AGENT:
            return state.status in SETTLED
        children = [self.table.state(child) for child in state.children]
        working = [child for child in children if child is None or child.status not in FINISHED]
        return bool(working) and all(child is not None and self._stands(child) for child in working)

    def _raise_dead(self, state: AgentState) -> None:
        agent_id, arn = state.agent_id, state.execution
        execution = None if state.free else self.execution(arn)
        if execution is None or execution.status == "RUNNING":
            return
        # The execution may have freed the lease between the two looks.
        now = self.table.state(agent_id)
        if now and now.owner == state.owner:
            why = f" {execution.error}: {reason(execution.cause)}" if execution.error else ""
            raise TurnDied(
                f"Agent {agent_id} is {now.status}, but no execution works on it: its turn {arn} is "
                f"{execution.status}.{why}"
            )

    def _failed(self, machine: str, since: dt.datetime | None) -> Iterator[Execution]:
        """Yield failed executions of a machine, the newest first: of the last 100, those since `since`."""
        # AWS's clock and ours may differ.
        oldest = since - dt.timedelta(minutes=1) if since else dt.datetime.min.replace(tzinfo=dt.UTC)
        pages = self.stepfunctions.get_paginator("list_executions").paginate(
            stateMachineArn=machine, statusFilter="FAILED", PaginationConfig={"MaxItems": 100}
        )
        listed = [each for page in pages for each in page["executions"] if each["startDate"] >= oldest]
        # Not every engine lists the newest first.
        for entry in sorted(listed, key=lambda each: each["startDate"], reverse=True):
            execution = self.execution(entry["executionArn"])
            if execution:
                yield execution

    def unknown(self, agent_id: str) -> UnknownAgent:
        """Make the error for an id that no agent has; it says why the agent's request was refused, if it was."""
        refused = next(iter(self.refusals(agent_id)), None)
        if refused:
            why = f"its request was refused. {refused.error}: {reason(refused.cause)}"
            return UnknownAgent(f"There is no agent {agent_id} in the stack {self.name}: {why}")
        return UnknownAgent(f"There is no agent {agent_id} in the stack {self.name}; `turnstile list` lists all agents")

    def _standing(self, listed: ListedState, before: WatchedAgent | None) -> WatchedAgent:
        """Build an agent's Standing. `before` is the agent at the last look: only a changed agent is read again."""
        summary = summary_of(listed)
        if before and (before.status, before.last_updated) == (summary.status, summary.last_updated):
            return before
        what = waits_for(self.view(summary.agent_id)) if summary.status in _TELLING else ""
        return WatchedAgent(**summary.model_dump(), step=listed.step, waits_for=what)

    def _entries(self, state: AgentState, first: int) -> list[Entry]:
        """Return the journal's entries from a step on, up to the step that STATE names."""
        if first > state.step:
            return []
        # The entry before `first` tells whether `first` follows from an approver's decision.
        steps, _ = self.table.steps(state.agent_id, first - 1, state.step)
        record = Record(state=state, steps=steps, inputs=self.table.inputs(state.agent_id))
        return [entry for entry in read_journal(record) if entry.step >= first]


def _failed_execution(recovery: Execution) -> str:
    """Return the ARN of the execution that a recovery's event is about; empty if it names none."""
    detail = recovery.event.get("detail")
    return str(detail.get("executionArn", "")) if isinstance(detail, dict) else ""
