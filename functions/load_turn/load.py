"""What a turn does next, decided by nothing but the record. Pure: the same record gives the same answer."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable

from agent.conversation import Conversation, Item, fold, pending_message
from agent.definition import Definition, ReadDefinition
from agent.errors import ContextTooLarge, EffectUncertain, InvalidRecord, LeaseLost
from agent.record import AGENT_ID, GOAL_LIMIT, PlanStep, step_record
from agent.turn import Agent, Claim, Entry, Fallback, Pending, Turn, Used
from load_turn.request import converse_request

PAYLOAD_LIMIT = 200 * 1024
"""Bytes of JSON that LoadTurn may answer: a state's payload ends at 256 KiB, and the reply joins it there."""


def load_turn(claim: Claim, items: Iterable[Item], read_definition: ReadDefinition, today: str) -> Turn:
    """Folds a record's items, in order of `record`.

    Raises LeaseLost if the claim does not own the agent, InvalidRecord if nothing can be done with the record,
    EffectUncertain if a call's outcome must be settled first, ContextTooLarge if the request does not fit.
    """
    by_kind: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_kind[item["record"].partition("#")[0]].append(item)
    state = _checked_state(claim, by_kind["STATE"])
    definition = read_definition(state["agent"], int(state["definitionVersion"]))
    conversation = fold(by_kind["STEP"], by_kind["EFFECT"], since=claim.claimed_step)
    if conversation.uncertain:
        names = ", ".join(call.name for call in conversation.uncertain)
        raise EffectUncertain(f"It is not known whether {names} took effect; that must be settled first.")
    waiting = sorted(
        (item for item in by_kind["INPUT"] if item["record"] not in conversation.folded),
        key=lambda item: (item["time"], item["receivedAt"], item["record"]),
    )
    agent = _agent(claim, state, definition, conversation, inbox=len(by_kind["INPUT"]))
    match entry := _entry(conversation, waiting, definition):
        case "CARRY_OUT" | "CLOSE":
            # A recovery may have written into the journal since.
            here = {"results_record": step_record(agent.step + 1)}
            decision = conversation.last.model_copy(update=here) if conversation.last else None
            return Turn(agent=agent, entry=entry, decision=decision)
    pending = Pending(
        messages=pending_message(conversation, [item["text"] for item in waiting]),
        inputs=[item["record"] for item in waiting],
    )
    for message in pending.messages:
        conversation.add(message["Role"], message["Content"])
    metadata = {"agentId": claim.agent_id, "step": state["step"], "modelCalls": state["modelCalls"]}
    request = converse_request(definition, conversation.messages, today, metadata)
    turn = Turn(
        agent=agent,
        entry=entry,
        request=request,
        fallback=_fallback(definition.model.fallbacks),
        tools=definition.tools,
        pending=pending,
    )
    size = len(json.dumps(turn.dump(), ensure_ascii=False).encode())
    if size > PAYLOAD_LIMIT:
        raise ContextTooLarge(
            f"The conversation has grown to a payload of {size // 1024} KiB; at most {PAYLOAD_LIMIT // 1024} KiB fit."
        )
    return turn


def _fallback(models: list[str]) -> Fallback:
    return Fallback(model_id=models[0], next=_fallback(models[1:])) if models else Fallback()


def _checked_state(claim: Claim, states: list[Item]) -> Item:
    if not states:
        raise InvalidRecord(f"Agent {claim.agent_id} has no STATE.")
    state = states[0]
    if state["owner"] != claim.owner:
        raise LeaseLost(f"{claim.owner} does not own agent {claim.agent_id}; {state['owner']} does.")
    if not re.fullmatch(AGENT_ID, claim.agent_id):
        raise InvalidRecord("An agentId has 1 to 64 characters A-Z a-z 0-9 _ and -.")
    if len(state["goal"].encode()) > GOAL_LIMIT:
        raise InvalidRecord(f"The goal has more than {GOAL_LIMIT} bytes. Send a short `goal` beside the long `prompt`.")
    return state


def _entry(conversation: Conversation, waiting: list[Item], definition: Definition) -> Entry:
    last = conversation.last
    if last and last.calls:
        return "CARRY_OUT"
    if last and last.action in ("COMPLETE", "ASK_USER") and not waiting:
        return "CLOSE"
    return "ASK_MODEL" if definition.model.protocol == "tools" else "ASK_MODEL_WITHOUT_TOOLS"


def _agent(claim: Claim, state: Item, definition: Definition, conversation: Conversation, inbox: int) -> Agent:
    plan = [PlanStep.model_validate(entry) for entry in json.loads(state["plan"])]
    return Agent(
        agent_id=claim.agent_id,
        owner=claim.owner,
        claimed_step=claim.claimed_step,
        step=int(state["step"]),
        inbox=inbox,
        rounds=conversation.decisions,
        plan=plan,
        used=Used(
            steps=int(state["modelCalls"]),
            tokens=int(state["inputTokens"]) + int(state["outputTokens"]),
            cost_micro_usd=int(state["costMicroUsd"]),
            replans=int(state["replans"]),
            wrong_replies=conversation.wrong_replies,
            repeats=conversation.repeats,
        ),
        limits=definition.limits,
        prices=definition.model.prices,
        protocol=definition.model.protocol,
        fingerprint=conversation.fingerprint,
        doubts=[
            *(f"Step {entry.step} of the plan is open: {entry.action}." for entry in plan if entry.status == "PENDING"),
            *(f"{name} came to nothing: {why}" for name, why in conversation.failed.items()),
        ],
        doubted=conversation.doubted,
    )
