"""The acts of an operator: answer a recovery's question, and send an agent to recovery."""

import datetime as dt
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from turnstile_agents.conversation import reason
from turnstile_agents.events import SOURCE, AgentError
from turnstile_agents.items import AgentState, Effect, Question
from turnstile_agents.operator import AnswerRefused, EffectAnswer, OperatorDecision, read_answer
from turnstile_agents.record import FINISHED, FREE, Status
from turnstile_cli.machines.trace import Execution
from turnstile_cli.stack.client import CHECK_INTERVAL, INTERVAL, Stack, StackError
from turnstile_cli.stack.shapes import Sent

_INSTEAD = {
    Status.WAITING_FOR_INPUT: '`turnstile input {agent} "…"` answers it',
    Status.WAITING_FOR_APPROVAL: "`turnstile approve {agent}` decides about its calls",
    Status.WAITING_FOR_AGENT: "`turnstile show {agent}` names the agents that it waits for",
}
"""What to do with an agent that does not wait for its operator; the key is the agent's status."""
UNANSWERED = 60
"""Seconds after which an event that started no execution is considered lost."""


@dataclass(frozen=True)
class Position:
    """An agent's position before a recovery moves it."""

    agent_id: str
    step: int
    updated: str
    asked: str
    """The time at which its operator was asked; empty if never."""
    execution: str
    """The execution that held the lease; `NONE` if the lease was free."""


# ---- decide


def decide(
    stack: Stack,
    agent_id: str,
    decision: OperatorDecision,
    note: str = "",
    effects: Sequence[EffectAnswer] = (),
) -> Position:
    """Answer the recovery that waits for an operator. `note` goes into the journal, `effects` into the ledger.

    Return the agent's position before. Raise UnknownAgent; StackError if the agent waits for no operator, if the answer
    does not say for each uncertain effect whether it happened, or if the answer comes too late or twice. After an
    error, nothing has changed.
    """
    state, record = stack.read_agent(agent_id)
    status, asked = state.status, record.question
    if status is not Status.WAITING_FOR_OPERATOR:
        what = f"Agent {agent_id} is {status} and waits for no operator; nothing was changed"
        raise StackError(f"{what}. {_INSTEAD[status].format(agent=agent_id)}" if status in _INSTEAD else what)
    if asked is None:
        raise StackError(f"Agent {agent_id} is just about to ask its operator; decide again in a moment")
    by = {"by": stack.by, "source": SOURCE}
    answer = {"decision": decision, "note": note, "effects": [effect.dump() for effect in effects], **by}
    try:
        read = read_answer(answer, record.effects)
    except AnswerRefused as refusal:
        raise StackError(_missing(agent_id, decision, refusal, record.unsettled)) from refusal
    output = json.dumps(read.dump(), ensure_ascii=False)
    exceptions = stack.stepfunctions.exceptions
    try:
        stack.stepfunctions.send_task_success(taskToken=asked.token, output=output)
    except (exceptions.InvalidToken, exceptions.TaskDoesNotExist, exceptions.TaskTimedOut) as error:
        raise StackError(
            f"No recovery waits for a decision on agent {agent_id}: a decision was given already, or its time is over. "
            f"Nothing was changed; `turnstile show {agent_id}` shows the agent's status"
        ) from error
    return _standing(state, asked)


def _missing(agent_id: str, decision: OperatorDecision, refusal: AnswerRefused, effects: list[Effect]) -> str:
    """Write why a decision was refused, and which options it needs."""
    told = f"Nothing was decided for agent {agent_id}: {refusal}"
    if not effects:
        return told
    options = " ".join(f"--not '{effect.record}'" for effect in effects)
    return (
        f"{told}. Look in the tool's own records. Then say --not KEY for an effect that did not happen, and "
        f"--happened KEY or --happened KEY=RESULT for an effect that did: "
        f"`turnstile decide {agent_id} {decision} {options}`"
    )


def wait_for_decision(stack: Stack, before: Position, timeout: float = 900) -> None:
    """Wait until the recovery has carried the decision out, or asks again. Raise StackError if it does neither."""
    _wait(stack, before, lambda: stack.execution(before.execution), timeout)


# ---- resume


def resume(stack: Stack, agent_id: str) -> tuple[Position, Sent]:
    """Send an agent to recovery: put the AgentError event that says that its turn has died.

    Return the agent's position before, and the event. Raise UnknownAgent; StackError if there is nothing to take over,
    because the agent is finished, waits for a person or another agent, or an execution works on it.
    """
    state, record = stack.read_agent(agent_id)
    before = _standing(state, record.question)
    _refuse_to_resume(stack, state, before)
    free = before.execution == FREE
    dead = state.last_updated_by if free else before.execution
    detail = AgentError(
        agent_id=agent_id,
        step=before.step,
        error="TurnDied",
        error_message=f"{'No execution works on it' if free else f'{dead} has ended'}; "
        "an operator sent it to recovery.",
        current_state=state.status,
        execution_arn=dead,
    )
    at = dt.datetime.now(dt.UTC)
    event_id = stack.put("AgentError", detail)
    return before, Sent(event_id, agent_id, stack.outputs.agent_recovery_arn, at, "error")


def wait_for_recovery(stack: Stack, before: Position, sent: Sent, timeout: float = 900) -> None:
    """Wait until the recovery has moved the agent, or asks its operator. Raise StackError if it does neither."""
    started: list[str] = []

    def find() -> Execution | None:
        if not started:
            started.extend(_executions_of(stack, sent))
        if not started and dt.datetime.now(dt.UTC) > sent.at + dt.timedelta(seconds=UNANSWERED):
            raise StackError(
                f"The event {sent.event_id} was put on the bus and started no recovery in {UNANSWERED} seconds; look "
                f"at the executions of {sent.machine}, and at the dead-letter queue of its rule"
            )
        return stack.execution(started[0]) if started else None

    _wait(stack, before, find, timeout)


def _refuse_to_resume(stack: Stack, state: AgentState, before: Position) -> None:
    agent_id, status = state.agent_id, state.status
    if status in FINISHED:
        raise StackError(f"Agent {agent_id} is {status}: it is finished and cannot be resumed")
    if status in _INSTEAD:
        what = f"Agent {agent_id} is {status}, and cannot be resumed before it gets what it waits for"
        raise StackError(f"{what}. {_INSTEAD[status].format(agent=agent_id)}")
    owner = stack.execution(before.execution) if before.execution != FREE else None
    if owner is None or owner.status != "RUNNING":
        return
    if status is Status.WAITING_FOR_OPERATOR:
        raise StackError(
            f"Agent {agent_id} waits for its operator: `turnstile decide {agent_id} {'|'.join(OperatorDecision)}`"
        )
    raise StackError(
        f"An execution works on agent {agent_id}: {owner.arn} is RUNNING. If it hangs, stop that execution, then resume"
    )


# ----


def _wait(stack: Stack, before: Position, find: Callable[[], Execution | None], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    check = 0.0
    while not _moved(stack, before):
        if time.monotonic() > check:
            execution = find()
            if execution and execution.status != "RUNNING":
                _explain(stack, before, execution)
                return
            check = time.monotonic() + CHECK_INTERVAL
        if time.monotonic() > deadline:
            raise StackError(
                f"Recovery has not moved agent {before.agent_id} in {timeout:.0f} seconds; "
                f"`turnstile trace {before.agent_id}` shows what the recovery does"
            )
        time.sleep(INTERVAL)


def _moved(stack: Stack, before: Position) -> bool:
    """Return True if the journal has grown, or the operator has been asked, since `before`."""
    now = _now(stack, before.agent_id)
    return now.step > before.step or now.asked != before.asked


def _explain(stack: Stack, before: Position, execution: Execution) -> None:
    """Raise StackError if a recovery has ended and the agent has not changed since `before`."""
    if _now(stack, before.agent_id).updated != before.updated:
        return
    if execution.error:
        told = f"failed. {execution.error}: {reason(execution.cause)}"
    else:
        told = f"is {execution.status}: it found nothing to do. `turnstile verify {before.agent_id}` tells more"
    raise StackError(f"Agent {before.agent_id} has not changed; its recovery {execution.arn} {told}")


def _now(stack: Stack, agent_id: str) -> Position:
    state = stack.table.state(agent_id)
    if state is None:
        raise StackError(f"Agent {agent_id} is gone from the table {stack.outputs.table_name}")
    return _standing(state, stack.table.question(agent_id))


def _standing(state: AgentState, asked: Question | None) -> Position:
    return Position(
        agent_id=state.agent_id,
        step=state.step,
        updated=state.last_updated,
        asked=asked.asked_at if asked else "",
        execution=state.execution,
    )


def _executions_of(stack: Stack, sent: Sent) -> list[str]:
    """Return the executions that an event has started, among the executions since the event was put on the bus."""
    since = sent.at - dt.timedelta(minutes=1)  # AWS's clock and ours may differ
    listed = stack.stepfunctions.list_executions(stateMachineArn=sent.machine, maxResults=100)["executions"]
    recent = [stack.execution(each["executionArn"]) for each in listed if each["startDate"] >= since]
    return [each.arn for each in recent if each and each.event.get("id") == sent.event_id]
