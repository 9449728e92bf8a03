"""The requests to agents: each is checked against the record, then put on the bus.

The check helps the caller: the answer names an error at once. The machines decide when the event arrives, and by then
the agent may have changed.
"""

import json
from typing import Any

from turnstile_agents.api import keys, services
from turnstile_agents.api.problems import HttpRefusal, invalid, unknown_agent
from turnstile_agents.api.shapes import (
    Accepted,
    ApprovalDecision,
    Cancelling,
    EffectView,
    OperatorDecisionBody,
    StartAgent,
)
from turnstile_agents.events import (
    API_SOURCE,
    AgentCancelRequested,
    AgentDecisionGiven,
    AgentInputReceived,
    AgentRequested,
)
from turnstile_agents.items import AgentState
from turnstile_agents.operator import AnswerRefused, read_answer
from turnstile_agents.record import FINISHED, GOAL_LIMIT, EffectStatus, Model, Status, Verdict
from turnstile_agents.store import table

RESERVED = ("child-", "key-")
"""The beginnings of ids that are made from a parent's decision, or from an Idempotency-Key."""
SHORT = 500
"""Characters of an effect's arguments or result."""


def start(request: StartAgent, key: str | None, by: str) -> Accepted:
    """Request an agent. The same key with the same body requests the same agent."""
    if len((request.prompt if request.goal is None else request.goal).encode()) > GOAL_LIMIT:
        what = "prompt, which is the goal too," if request.goal is None else "goal"
        raise invalid(f"{what} has more than {GOAL_LIMIT} bytes; give a short goal beside a long prompt")
    if request.agent_id and request.agent_id.startswith(RESERVED):
        raise invalid(
            f"agentId begins with {' or '.join(RESERVED)}: such ids belong to agents that another agent delegates to "
            "or that are named after an Idempotency-Key. Use another agentId, or leave it out"
        )
    agent_id = request.agent_id or keys.agent_id_for(key)
    request_id = keys.request_id(key, request)
    if request.agent_id or key:
        existing = table().state(agent_id)
        if existing and existing.created_by == request_id:
            return Accepted(agent_id=agent_id, status=existing.status)
        if existing:
            raise _taken(agent_id, existing.created_by, key)
    name = request.agent or services.environment().default_agent
    if table().definition(name) is None:
        raise HttpRefusal(
            404, "DefinitionUnknown", f"No agent named {name} is registered; `turnstile register` registers one"
        )
    services.put(
        AgentRequested(
            prompt=request.prompt,
            goal=request.goal,
            agent=request.agent,
            agent_id=agent_id,
            request_id=request_id,
            by=by,
        )
    )
    return Accepted(agent_id=agent_id, status=Status.INITIATED)


def give_input(agent_id: str, text: str, key: str | None, by: str) -> Accepted:
    """Send a user's text to an agent that waits for it, or that works and reads it at its next step."""
    event = AgentInputReceived(agent_id=agent_id, text=text, input_id=keys.input_id(key), by=by)
    state = _state(agent_id)
    accepted = Accepted(agent_id=agent_id, status=state.status)
    if key and _known(event, agent_id, key):
        return accepted
    if accepted.status in FINISHED:
        raise _finished(agent_id, accepted.status, "and takes no more input; start another agent")
    if accepted.status is Status.WAITING_FOR_APPROVAL:
        raise HttpRefusal(
            409,
            "InputRefused",
            f"Agent {agent_id} takes no input now: it waits for a decision on approval {state.waits_for}. Send the "
            f"decision with POST /agents/{agent_id}/decisions",
        )
    if accepted.status is Status.WAITING_FOR_OPERATOR:
        raise HttpRefusal(
            409,
            "InputRefused",
            f"Agent {agent_id} takes no input now: it waits for its operator. Send the operator's decision with "
            f"POST /agents/{agent_id}/decisions",
        )
    services.put(event)
    return accepted


def decide_approval(agent_id: str, given: ApprovalDecision, key: str | None, by: str) -> Accepted:
    """Decide about calls that wait for approval."""
    event = AgentDecisionGiven(
        agent_id=agent_id,
        approval_id=given.approval_id,
        decision=Verdict(given.decision),
        note=given.note,
        input_id=keys.input_id(key),
        by=by,
    )
    state = _state(agent_id)
    accepted = Accepted(agent_id=agent_id, status=state.status)
    if key and _known(event, agent_id, key):
        return accepted
    if accepted.status is not Status.WAITING_FOR_APPROVAL:
        raise _no_decision(agent_id, f"is {accepted.status} and waits for no approval")
    if state.waits_for != given.approval_id:
        raise _no_decision(agent_id, f"waits for a decision on approval {state.waits_for}, not on {given.approval_id}")
    services.put(event)
    return accepted


def decide_operator(agent_id: str, given: OperatorDecisionBody, by: str) -> Accepted:
    """Answer the recovery that asks its operator.

    The question's id and its token are one item, and the token works only once, so this needs no Idempotency-Key.
    """
    state = _state(agent_id)
    if state.status is not Status.WAITING_FOR_OPERATOR:
        raise _no_decision(agent_id, f"is {state.status} and waits for no operator")
    asked = table().question(agent_id)
    if asked is None:
        raise _no_decision(agent_id, "is just about to ask its operator; decide again in a moment")
    if asked.question_id != given.question_id:
        raise _no_decision(
            agent_id, f"is asking question {asked.question_id} by now, and question {given.question_id} is closed"
        )
    answer = {**given.dump(), "by": by, "source": API_SOURCE}
    del answer["questionId"]
    try:
        read = read_answer(answer, table().effects(agent_id))
    except AnswerRefused as refusal:
        raise _no_decision(agent_id, f"cannot take this decision: {refusal}. Nothing was changed") from refusal
    client = services.stepfunctions()
    try:
        client.send_task_success(taskToken=asked.token, output=json.dumps(read.dump(), ensure_ascii=False))
    except (
        client.exceptions.InvalidToken,
        client.exceptions.TaskDoesNotExist,
        client.exceptions.TaskTimedOut,
    ) as error:
        raise _no_decision(
            agent_id, "no longer waits for a decision: it was given already, or its time is over. Nothing was changed"
        ) from error
    return Accepted(agent_id=agent_id, status=Status.WAITING_FOR_OPERATOR)


def cancel(agent_id: str, note: str, key: str | None, by: str) -> Cancelling:
    """Stop an agent, and return the effects that it leaves."""
    event = AgentCancelRequested(agent_id=agent_id, note=note, input_id=keys.input_id(key), by=by)
    status = _state(agent_id).status
    if not (key and _known(event, agent_id, key)):
        if status in FINISHED:
            raise _finished(agent_id, status, "and there is nothing to stop")
        services.put(event)
    standing = [
        EffectView(tool=effect.tool, status=effect.status, input=_short(effect.input), result=_short(effect.result))
        for effect in table().effects(agent_id)
        if effect.status not in (EffectStatus.FAILED, EffectStatus.COMPENSATED)
    ]
    return Cancelling(agent_id=agent_id, status=status, standing=standing)


# ----


def _state(agent_id: str) -> AgentState:
    state = table().state(agent_id)
    if state is None:
        raise unknown_agent(agent_id)
    return state


def _known(event: AgentInputReceived | AgentDecisionGiven | AgentCancelRequested, agent_id: str, key: str) -> bool:
    """Return whether the record has this input already, under this key. Raises HttpRefusal if it has another there.

    The caller is not compared: the same request sent again may come from another session of the same service.
    """
    item = table().input(agent_id, event.input_id or "")
    if item is None:
        return False
    if item.type == type(event).__name__ and _without_caller(item.fields) == _without_caller(_detail(event)):
        return True
    raise _reused(key)


def _detail(event: Model) -> dict[str, Any]:
    return event.model_dump(mode="json", by_alias=True, exclude_none=True)


def _without_caller(detail: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in detail.items() if name != "by"}


def _taken(agent_id: str, created_by: str, key: str | None) -> HttpRefusal:
    if key and created_by.startswith(keys.request_prefix(key)):
        return _reused(key)
    return HttpRefusal(
        409,
        "AgentExists",
        f"Agent {agent_id} exists already. To speak to it, POST /agents/{agent_id}/input; to start another, use "
        "another agentId",
    )


def _reused(key: str) -> HttpRefusal:
    return HttpRefusal(
        422, "KeyReused", f"The Idempotency-Key {key} was used for another request before; use a new one for this"
    )


def _finished(agent_id: str, status: Status, why: str) -> HttpRefusal:
    return HttpRefusal(409, "AgentFinished", f"Agent {agent_id} is {status} {why}")


def _no_decision(agent_id: str, why: str) -> HttpRefusal:
    return HttpRefusal(409, "DecisionRefused", f"Agent {agent_id} {why}; GET /agents/{agent_id} shows its status")


def _short(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
