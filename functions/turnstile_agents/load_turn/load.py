"""Decides from the record alone what a turn does next. Pure: the same record gives the same answer."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable

from turnstile_agents.conversation import Conversation, Failed, Item, fold, pending_message
from turnstile_agents.definition import Definition, ReadDefinition
from turnstile_agents.errors import ContextTooLarge, EffectUncertain, InvalidRecord, LeaseLost
from turnstile_agents.family import ReadAbove, deserted
from turnstile_agents.load_turn.children import LONGEST, TOGETHER, late_report, report
from turnstile_agents.load_turn.fitting import fitting
from turnstile_agents.load_turn.inbox import Inbox, read_inbox, refusal, told
from turnstile_agents.load_turn.request import converse_request
from turnstile_agents.record import (
    AGENT_ID,
    BY_LIMIT,
    GOAL_LIMIT,
    Answer,
    Decision,
    EffectStatus,
    PlanStep,
    Status,
    Verdict,
    step_record,
)
from turnstile_agents.turn import Claim, Entry, Fallback, Pending, Turn, TurnAgent, Used

PAYLOAD_LIMIT = 200 * 1024
"""Bytes of JSON that LoadTurn may return: a state's payload has 256 KiB at most, and the model's reply is added."""
_NAMED = 10
"""Failed calls that are named one by one."""
_SHORT = 300
"""Characters of a failed call's arguments, and of its reason."""
ReadItems = Callable[[str], Iterable[Item]]
"""Reads the items of another agent by its id."""


def load_turn(
    claim: Claim,
    items: Iterable[Item],
    read_definition: ReadDefinition,
    read_items: ReadItems,
    read_above: ReadAbove,
    today: str,
) -> Turn:
    """Fold a record's items, in order of `record`. `read_items` reads the items of its children.

    Raises LeaseLost if the claim does not own the agent, InvalidRecord if the record cannot be worked on,
    EffectUncertain if a call's outcome must be settled first, ContextTooLarge if the request does not fit.
    """
    by_kind: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_kind[item["record"].partition("#")[0]].append(item)
    state = _checked_state(claim, by_kind["STATE"])
    definition = read_definition(state["agent"], int(state["definitionVersion"]))
    inputs = by_kind["INPUT"]
    conversation = fold(by_kind["STEP"], by_kind["EFFECT"], inputs, since=claim.claimed_step)
    why_deserted = deserted(state, read_above)
    cancelled = int(state["cancels"]) > 0 or bool(why_deserted)
    _check_settled(conversation, by_kind["EFFECT"] if cancelled else [])
    agent = _agent(claim, state, definition, conversation, inbox=len(inputs))
    inbox = read_inbox(inputs, conversation.folded)
    # The results go after the newest entry: a recovery may have written one after the decision.
    here = step_record(agent.step + 1)
    if cancelled:
        return Turn(agent=agent, entry="CLOSE", decision=_cancel(here, inbox.cancel_note or why_deserted))
    news = _news(conversation, agent, inbox, read_items)
    if entry := _entry(conversation.last, inbox, news, state):
        decision = conversation.last.model_copy(update={"results_record": here}) if conversation.last else None
        return Turn(agent=agent, entry=entry, decision=decision)
    answers = _answers(conversation.last, inbox, read_items)
    metadata = {"agentId": claim.agent_id, "step": state["step"], "modelCalls": state["modelCalls"]}

    def ask(words: list[str]) -> Turn:
        """Make the turn that tells the model these first texts of the user; later texts wait for the next round."""
        taken = inbox.before_words(len(words))
        messages = pending_message(conversation, words, answers, news)
        left = len(inbox.records) - len(taken.records)
        return Turn(
            agent=agent,
            entry="ASK_MODEL" if definition.model.protocol == "tools" else "ASK_MODEL_WITHOUT_TOOLS",
            request=converse_request(definition, agent, conversation.followed_by(messages), today, metadata),
            fallback=_fallback(definition.model.fallbacks),
            tools=definition.tools,
            delegates=[delegate.name for delegate in definition.delegates],
            pending=Pending(messages=messages, inputs=taken.records, left=left),
        )

    turn = ask(fitting(inbox.words, PAYLOAD_LIMIT - _size(ask([]))) if inbox.words else [])
    size = _size(turn)
    if size > PAYLOAD_LIMIT:
        raise ContextTooLarge(
            f"The conversation has grown to a payload of {size // 1024} KiB; at most {PAYLOAD_LIMIT // 1024} KiB fit."
        )
    return turn


def _size(turn: Turn) -> int:
    return len(json.dumps(turn.dump(), ensure_ascii=False).encode())


def _entry(last: Decision | None, inbox: Inbox, news: list[str], state: Item) -> Entry | None:
    """Return the entry that the open decision leads to; None if the model is asked."""
    match last.action if last else None, last:
        case "TOOL_USE", _:
            return "CARRY_OUT"
        case "ASK_APPROVAL", Decision(waits_for=approval):
            ruling = inbox.ruling(approval)
            if ruling is None:
                return "CLOSE"
            return "CARRY_OUT" if ruling.decision is Verdict.APPROVE else None
        case "DELEGATE", Decision(children=children, waits_for=waits_for):
            if {child.agent_id for child in children} <= set(inbox.finished):
                return None
            # Only a turn that closed on this decision has certainly started all of its children.
            return "CLOSE" if state["waitsFor"] == waits_for else "START_CHILDREN"
        case "ASK_USER", _ if not inbox.words:
            return "CLOSE"
        case "COMPLETE", _ if not (inbox.words or news):
            return "CLOSE"
    return None


def _answers(last: Decision | None, inbox: Inbox, read_items: ReadItems) -> list[Answer]:
    """Answer the open tool uses: calls that were refused, or children that have all reported."""
    if last is None:
        return []
    if last.children:
        limit = min(LONGEST, TOGETHER // len(last.children))
        return [report(child.tool_use_id, read_items(child.agent_id), limit) for child in last.children]
    ruling = inbox.ruling(last.waits_for)
    if ruling is None:
        return []
    return [
        Answer(tool_use_id=call.tool_use_id, text=refusal(ruling, call.approval), error=True) for call in last.calls
    ]


def _news(conversation: Conversation, agent: TurnAgent, inbox: Inbox, read_items: ReadItems) -> list[str]:
    """Return the other texts for the model, beside the user's texts and the answers to open tool uses."""
    last = conversation.last
    awaited = {child.agent_id for child in last.children} if last else set()
    late = [child for child in inbox.finished if child in agent.children and child not in awaited]
    reports = [late_report(read_items(child), min(LONGEST, TOGETHER // len(late))) for child in late]
    is_open = last is not None and last.action == "ASK_APPROVAL"
    ruling = None if is_open else inbox.ruling(conversation.approval)
    return [*reports, *([text] if ruling and (text := told(ruling)) else [])]


def _cancel(record: str, note: str) -> Decision:
    status = Status.CANCELLED
    return Decision(action="CANCEL", status=status, closes_as=status, message=note, results_record=record)


def _check_settled(conversation: Conversation, ledger: list[Item]) -> None:
    """Raise EffectUncertain if an outcome is unknown. `ledger`: entries that must be settled too."""
    unsettled = {EffectStatus.RESERVED, EffectStatus.UNCERTAIN}
    names = [call.name for call in conversation.uncertain]
    names += [item["tool"] for item in ledger if item["status"] in unsettled and item["tool"] not in names]
    if names:
        raise EffectUncertain(f"It is not known whether {', '.join(names)} took effect; that must be settled first.")


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
    if len(state["by"]) > BY_LIMIT:
        raise InvalidRecord(f"`by` has more than {BY_LIMIT} characters. Send the caller's name, and nothing else.")
    if len(state["goal"].encode()) > GOAL_LIMIT:
        raise InvalidRecord(f"The goal has more than {GOAL_LIMIT} bytes. Send a short `goal` beside the long `prompt`.")
    for name in ("depth", "tokenLimit", "costLimit"):
        if not state[name].isdecimal():
            raise InvalidRecord(f"{name} is {state[name]}. Send whole numbers in `parent`.")
    return state


def _agent(claim: Claim, state: Item, definition: Definition, conversation: Conversation, inbox: int) -> TurnAgent:
    plan = [PlanStep.model_validate(entry) for entry in json.loads(state["plan"])]
    limits, tokens, cost = definition.limits, int(state["tokenLimit"]), int(state["costLimit"])
    own = {
        "tokens": min(limits.tokens, tokens) if tokens else limits.tokens,
        "cost_micro_usd": min(limits.cost_micro_usd, cost) if cost else limits.cost_micro_usd,
    }
    return TurnAgent(
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
        limits=limits.model_copy(update=own),
        prices=definition.model.prices,
        protocol=definition.model.protocol,
        fingerprint=conversation.fingerprint,
        doubts=_doubts(plan, conversation.failed),
        doubted=conversation.doubted,
        depth=int(state["depth"]),
        children=json.loads(state["children"]),
    )


def _doubts(plan: list[PlanStep], failed: list[Failed]) -> list[str]:
    """List the reasons against being complete; of the failed calls only the newest `_NAMED` are named."""
    left_out = len(failed) - _NAMED
    return [
        *(f"Step {entry.step} of the plan is open: {entry.action}." for entry in plan if entry.status == "PENDING"),
        *([f"{left_out} earlier calls came to nothing."] if left_out > 0 else []),
        *(f"{call.name} {_short(call.arguments)} came to nothing: {_short(call.reason)}" for call in failed[-_NAMED:]),
    ]


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
