"""The bench that cases run on: an embedded engine with faults, a scripted model, flights with seats, an operator.

Each guard can be removed, to measure what it prevents:

- without the ledger, every call is made as a read: it is not reserved, and it is retried as reads are;
- without the tool's own guard, every attempt of a call gets its own key, so the tool does not recognise the call.
"""

import contextlib
import io
import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnstile_agents.events import SOURCE
from turnstile_agents.items import AgentState, Effect, Item, ModelStep, stored
from turnstile_agents.load_watch.load import LOOKS
from turnstile_agents.operator import EffectAnswer, OperatorAnswer, OperatorDecision
from turnstile_agents.record import Child, Decision, Status, child_id, step_record
from turnstile_cli.chaos.plays import plays, write_agents
from turnstile_cli.chaos.tools import OPEN, SAMPLE, deploy_note, shorten
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.faults import FOLDER, Faults
from turnstile_cli.engines.template import zip_folder
from turnstile_cli.files import TEMPLATE
from turnstile_cli.models.scripted import ScriptedModel
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.registry import register
from turnstile_cli.stack.sample import load_sample

LONG_AGO = "2026-01-01T00:00:00Z"
SEATS = 1_000_000
"""The free seats of each flight that has any: enough that no case takes the last seat from another."""
DIES_WITHIN = 30
"""Seconds that the engine may take to save its data and die."""
OWN_KEY = "!"
"""Without the tool's guard: the separator between a call's key and the part that each attempt adds."""
_UNGUARDED = f'''"""Calls a tool under a key that no other attempt has."""

import importlib
import uuid


def make(name):
    handler = importlib.import_module(f"tools.{{name}}.handler").handler

    def unguarded(event, context):
        return handler({{**event, "key": f"{{event['key']}}{OWN_KEY}{{uuid.uuid4()}}"}}, context)

    return unguarded


'''


@dataclass(frozen=True)
class Guards:
    """The guards that keep a call from being carried out twice."""

    ledger: bool = True
    tool: bool = True

    def __str__(self) -> str:
        return {
            (True, True): "ledger and tool",
            (True, False): "ledger alone",
            (False, True): "tool alone",
            (False, False): "none",
        }[self.ledger, self.tool]


class Bench:
    """A stack with faults; the function `bench` makes it."""

    def __init__(self, folder: Path, model: str, template: Path) -> None:
        self._folder = folder
        self._model = model
        faults = folder / "faults"
        faults.mkdir()
        self.faults = Faults(faults)
        self.started = Started(faults / "executions")
        self.engine = self._start(None)
        self.engine.deploy(template)
        self.stack = Stack.embedded(self.engine)
        self.operator = OperatorInbox(self.engine)

    def restart(self) -> None:
        """Kill the engine and start a new one with its data.

        Executions that were running are FAILED there, and no event tells of it.
        """
        port = self.engine.running.port
        self.faults.kill_engine()
        deadline = time.monotonic() + DIES_WITHIN
        with contextlib.suppress(EngineError):
            while time.monotonic() < deadline:
                self.engine.check()
                time.sleep(0.05)
        self.engine.stop()
        self.engine = self._start(port)
        self.engine.read_outputs()
        self.stack = Stack.embedded(self.engine)
        self.operator.attach(self.engine)

    def nudge(self, state: AgentState) -> None:
        """Start agent_watch, which finds agents that no execution works on.

        If the stack has no agent_watch, announce the agent's dead turn directly.
        """
        arn = self.engine.outputs.get("AgentWatchArn")
        if arn is None:
            self._resume(state)
            return
        # The input only tells which case started the run; agent_watch checks all agents.
        self.stack.stepfunctions.start_execution(stateMachineArn=arn, input=json.dumps({"agentId": state.agent_id}))

    def crowd(self, prefix: str) -> list[Item]:
        """Put `2 * LOOKS + 1` parents into the table, more than two runs of agent_watch check.

        Each waits for a child at work. Return the items, for `remove`.
        """
        items: list[Item] = []
        for number in range(2 * LOOKS + 1):
            parent = f"{prefix}-{number}"
            delegation = _delegation(parent)
            [child] = delegation.read_decision().children
            items.append(_state(parent, Status.WAITING_FOR_AGENT, waits_for=str(delegation.step)))
            items.append(delegation)
            items.append(_state(child.agent_id, Status.WAITING_FOR_INPUT, parent=parent))
        self._write([{"PutRequest": {"Item": stored(item)}} for item in items])
        return items

    def remove(self, items: Sequence[Item]) -> None:
        """Delete the items that `crowd` put."""
        keys = ({"agentId": {"S": item.agent_id}, "record": {"S": item.record}} for item in items)
        self._write([{"DeleteRequest": {"Key": key}} for key in keys])

    def _write(self, requests: Sequence[Any]) -> None:
        self.stack.write_batches(self.stack.outputs.table_name, requests)

    def status(self, arn: str) -> str:
        """Return the status of an execution."""
        return str(self.stack.stepfunctions.describe_execution(executionArn=arn)["status"])

    def look_up(self, effect: Effect) -> EffectAnswer:
        """Look up with find_booking whether an uncertain effect happened, as an operator does."""
        agent_id, key = effect.agent_id, effect.record
        asked = {"key": f"{agent_id}#{key}", "tool": effect.tool, "input": effect.arguments}
        payload = {"agentId": agent_id, "key": f"{agent_id}#{key}#OPERATOR", "input": asked}
        function = f"{self.stack.name}-tool-find_booking"
        answer = self.stack.lambdas.invoke(FunctionName=function, Payload=json.dumps(payload).encode())
        found = json.loads(answer["Payload"].read())
        return EffectAnswer(key=key, happened=found["happened"], result=found["result"] or None)

    def _resume(self, state: AgentState) -> None:
        detail = {
            "agentId": state.agent_id,
            "step": state.step,
            "error": "TurnDied",
            "errorMessage": "No execution works on the agent.",
            "currentState": state.current_state,
            "executionArn": state.last_updated_by if state.free else state.execution,
        }
        entry = {"Source": SOURCE, "DetailType": "AgentError", "EventBusName": self.stack.outputs.bus_name}
        self.stack.events.put_events(Entries=[{**entry, "Detail": json.dumps(detail)}])  # type: ignore[typeddict-item]

    def _start(self, port: int | None) -> Embedded:
        before = os.environ.get(FOLDER)
        os.environ[FOLDER] = str(self._folder / "faults")  # the child inherits it
        try:
            return Embedded.start(model=self._model, folder=self._folder / "engine", wait_scale=0, port=port)
        finally:
            if before is None:
                del os.environ[FOLDER]
            else:
                os.environ[FOLDER] = before


_EMPTY: dict[Any, Any] = {int: 0, str: ""}


def _state(agent_id: str, status: Status, **fields: Any) -> AgentState:
    """Make a STATE that has not changed for long, and whose other attributes are 0 or empty."""
    empty = {name: _EMPTY.get(field.annotation, []) for name, field in AgentState.model_fields.items()}
    return AgentState.model_validate(
        empty | {"agent_id": agent_id, "record": "STATE", "status": status, "last_updated": LONG_AGO} | fields
    )


def _delegation(agent_id: str) -> ModelStep:
    """Make the decision of an agent that delegates to one other agent."""
    record, status = step_record(2), Status.WAITING_FOR_AGENT
    child = Child(
        tool_use_id="",
        agent_id=child_id(agent_id, 2, 0),
        agent="travel",
        goal="",
        prompt="",
        step=record,
        place=0,
        depth=1,
        tokens=1,
        cost_micro_usd=1,
    )
    decision = Decision(action="DELEGATE", status=status, closes_as=status, children=[child], results_record="")
    return ModelStep(
        agent_id=agent_id,
        record=record,
        who="MODEL",
        execution="",
        at=LONG_AGO,
        messages="[]",
        inputs=[],
        decision=decision.model_dump_json(by_alias=True),
        usage="{}",
    )


class Started:
    """The executions that the engine has started, read from the engine's list. Safe to use from several threads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0
        self._known: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def of(self, agent_id: str) -> list[str]:
        """Return the ARNs of the executions whose input names an agent, oldest first.

        Executions of agent_publish are left out: several agents share one.
        """
        with self._lock:
            if self._file.exists():
                with self._file.open("rb") as file:
                    file.seek(self._read)
                    for line in file:
                        if not line.endswith(b"\n"):  # being written
                            break
                        self._read += len(line)
                        entry = json.loads(line)
                        if "-AgentPublish:" not in entry["arn"]:
                            self._known.append((entry["arn"], entry["input"]))
            return [arn for arn, text in self._known if agent_id in text]


class OperatorInbox:
    """The operator of a case: receives the messages to the operator, and answers when the case says so."""

    def __init__(self, engine: Embedded) -> None:
        self._lock = threading.Lock()
        self._messages: list[str] = []
        self._engine = engine
        self._topic = engine.outputs.get("OperatorTopicArn")
        if self._topic:
            sqs = engine.client("sqs")
            self._url = sqs.create_queue(QueueName="chaos-operator", Attributes=OPEN)["QueueUrl"]
            attributes = sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]
            engine.client("sns").subscribe(TopicArn=self._topic, Protocol="sqs", Endpoint=attributes["QueueArn"])

    def attach(self, engine: Embedded) -> None:
        """Continue with a new engine that has the data of the engine before."""
        self._engine = engine

    def was_asked(self, agent_id: str) -> bool:
        """Return True if a message about an agent has come."""
        if not self._topic:
            return False
        with self._lock:
            sqs = self._engine.client("sqs")
            while messages := sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
                for message in messages:
                    self._messages.append(message["Body"])
                    sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
            return any(agent_id in text for text in self._messages)

    def decide(self, token: str, decision: str, effects: list[EffectAnswer]) -> None:
        """Answer the question that has this task token."""
        answer = OperatorAnswer(decision=OperatorDecision(decision), note="Chaos", effects=effects, by="chaos")
        output = json.dumps(answer.dump())
        self._engine.client("stepfunctions").send_task_success(taskToken=token, output=output)


@contextmanager
def bench(folder: Path, guards: Guards, template: Path = TEMPLATE) -> Iterator[Bench]:
    """Start everything, and stop it when the context ends.

    Raise EngineError or StackError if something does not start; the engine's log is in `folder`.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with ScriptedModel(play.scenario for play in plays().values()) as model:
        made = Bench(folder, model.url, template)
        try:
            load_sample().seed(made.stack, SEATS)
            shorten(made.stack)
            deploy_note(made.stack, made.engine.client)
            for file in write_agents(folder):
                register(made.stack, file)
            if "AgentWatchArn" in made.engine.outputs:
                _watch_at_once(made.stack)
            if not guards.ledger:
                _without_ledger(made.stack)
            if not guards.tool:
                _without_tool_guard(made.stack, template.parent / "functions")
            yield made
        finally:
            made.engine.stop()


def _watch_at_once(stack: Stack) -> None:
    """Let agent_watch find agents that have not moved for a second, and approvals that have waited for a second.

    One run asks for such an approval again; the next lets it expire.
    """
    function = f"{stack.name}-load-watch"
    environment = stack.lambdas.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    stack.lambdas.update_function_configuration(
        FunctionName=function, Environment={"Variables": environment | {"STALE_MINUTES": "0", "APPROVAL_MINUTES": "0"}}
    )


def _without_ledger(stack: Stack) -> None:
    arn = stack.outputs.agent_turn_arn
    definition = json.loads(stack.stepfunctions.describe_state_machine(stateMachineArn=arn)["definition"])
    inside = definition["States"]["CallTools"]["ItemProcessor"]["States"]
    inside["RouteCall"] = {"Type": "Pass", "Next": "CallReadTool"}
    stack.stepfunctions.update_state_machine(stateMachineArn=arn, definition=json.dumps(definition))


def _without_tool_guard(stack: Stack, functions: Path) -> None:
    buffer = io.BytesIO(zip_folder(functions))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("unguarded.py", _UNGUARDED + "".join(f"{name} = make({name!r})\n" for name in SAMPLE))
    for name in SAMPLE:
        function = f"{stack.name}-tool-{name}"
        stack.lambdas.update_function_code(FunctionName=function, ZipFile=buffer.getvalue())
        stack.lambdas.update_function_configuration(FunctionName=function, Handler=f"unguarded.{name}")
