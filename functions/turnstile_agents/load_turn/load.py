"""Decides from the record alone what a turn does next. Pure: the same record gives the same answer."""

import json
import re
from collections.abc import Callable

from turnstile_agents.conversation import Conversation, Failed, fold, pending_message
from turnstile_agents.definition import Definition, ReadDefinition
from turnstile_agents.errors import ContextTooLarge, EffectUncertain, InvalidRecord, LeaseLost
from turnstile_agents.family import ReadState, deserted
from turnstile_agents.items import AgentState, Effect, Record
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
    PlanStep,
    Status,
    Verdict,
    step_record,
)
from turnstile_agents.turn import Claim, Entry, Fallback, Pending, Turn, TurnAgent, TurnTool, Used

PAYLOAD_LIMIT = 200 * 1024
"""Bytes of JSON that LoadTurn may return: a state's payload has 256 KiB at most, and the model's reply is added."""
_NAMED = 10
"""Failed calls that are named one by one."""
_SHORT = 300
"""Characters of a failed call's arguments, and of its reason."""
ReadRecord = Callable[[str], Record]
"""Reads the record of another agent by its id; empty if there is no such agent."""


def load_turn(
    claim: Claim,
    record: Record,
    read_definition: ReadDefinition,
    read_record: ReadRecord,
    read_state: ReadState,
    today: str,
) -> Turn:
    """Fold a record. `read_record` reads its children, `read_state` the agents above it.

    Raises LeaseLost if the claim does not own the agent, InvalidRecord if the record cannot be worked on,
    EffectUncertain if a call's outcome must be settled first, ContextTooLarge if the request does not fit.
    """
    state = _checked_state(claim, record.state)
    definition = read_definition(state.agent, state.definition_version)
    conversation = fold(record.steps, record.effects, record.inputs, since=claim.claimed_step)
    why_deserted = deserted(state, read_state)
    cancelled = state.cancels > 0 or bool(why_deserted)
    _check_settled(conversation, record.unsettled if cancelled else [])
    agent = _agent(claim, state, definition, conversation, inbox=len(record.inputs))
    inbox = read_inbox(record.inputs, conversation.folded)
    # The results go after the newest entry: a recovery may have written one after the decision.
    here = step_record(agent.step + 1)
    if cancelled:
        return Turn(agent=agent, entry="CLOSE", decision=_cancel(here, inbox.cancel_note or why_deserted))
    news = _news(conversation, agent, inbox, read_record)
    if entry := _entry(conversation.last, inbox, news, state):
        decision = conversation.last.model_copy(update={"results_record": here}) if conversation.last else None
        return Turn(agent=agent, entry=entry, decision=decision)
    answers = _answers(conversation.last, inbox, read_record)
    metadata = {"agentId": claim.agent_id, "step": str(state.step), "modelCalls": str(state.model_calls)}

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
            tools=[TurnTool.of(tool) for tool in definition.tools],
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


def _entry(last: Decision | None, inbox: Inbox, news: list[str], state: AgentState) -> Entry | None:
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
            return "CLOSE" if state.waits_for == waits_for else "START_CHILDREN"
        case "ASK_USER", _ if not inbox.words:
            return "CLOSE"
        case "COMPLETE", _ if not (inbox.words or news):
            return "CLOSE"
    return None


def _answers(last: Decision | None, inbox: Inbox, read_record: ReadRecord) -> list[Answer]:
    """Answer the open tool uses: calls that were refused, or children that have all reported."""
    if last is None:
        return []
    if last.children:
        limit = min(LONGEST, TOGETHER // len(last.children))
        return [report(child.tool_use_id, read_record(child.agent_id), limit) for child in last.children]
    ruling = inbox.ruling(last.waits_for)
    if ruling is None:
        return []
    return [
        Answer(tool_use_id=call.tool_use_id, text=refusal(ruling, call.approval), error=True) for call in last.calls
    ]


def _news(conversation: Conversation, agent: TurnAgent, inbox: Inbox, read_record: ReadRecord) -> list[str]:
    """Return the other texts for the model, beside the user's texts and the answers to open tool uses."""
    last = conversation.last
    awaited = {child.agent_id for child in last.children} if last else set()
    late = [child for child in inbox.finished if child in agent.children and child not in awaited]
    reports = [late_report(read_record(child), min(LONGEST, TOGETHER // len(late))) for child in late]
    is_open = last is not None and last.action == "ASK_APPROVAL"
    ruling = None if is_open else inbox.ruling(conversation.approval)
    return [*reports, *([text] if ruling and (text := told(ruling)) else [])]


def _cancel(record: str, note: str) -> Decision:
    status = Status.CANCELLED
    return Decision(action="CANCEL", status=status, closes_as=status, message=note, results_record=record)


def _check_settled(conversation: Conversation, unsettled: list[Effect]) -> None:
    """Raise EffectUncertain if an outcome is unknown. `unsettled`: entries of the ledger that must be settled too."""
    names = [call.name for call in conversation.uncertain]
    names += [effect.tool for effect in unsettled if effect.tool not in names]
    if names:
        raise EffectUncertain(f"It is not known whether {', '.join(names)} took effect; that must be settled first.")


def _fallback(models: list[str]) -> Fallback:
    return Fallback(model_id=models[0], next=_fallback(models[1:])) if models else Fallback()


def _checked_state(claim: Claim, state: AgentState | None) -> AgentState:
    if state is None:
        raise InvalidRecord(f"Agent {claim.agent_id} has no STATE.")
    if state.owner != claim.owner:
        raise LeaseLost(f"{claim.owner} does not own agent {claim.agent_id}; {state.owner} does.")
    if not re.fullmatch(AGENT_ID, claim.agent_id):
        raise InvalidRecord("An agentId has 1 to 64 characters A-Z a-z 0-9 _ and -.")
    if len(state.by) > BY_LIMIT:
        raise InvalidRecord(f"`by` has more than {BY_LIMIT} characters. Send the caller's name, and nothing else.")
    if len(state.goal.encode()) > GOAL_LIMIT:
        raise InvalidRecord(f"The goal has more than {GOAL_LIMIT} bytes. Send a short `goal` beside the long `prompt`.")
    return state


def _agent(
    claim: Claim, state: AgentState, definition: Definition, conversation: Conversation, inbox: int
) -> TurnAgent:
    limits, tokens, cost = definition.limits, state.token_limit, state.cost_limit
    own = {
        "tokens": min(limits.tokens, tokens) if tokens else limits.tokens,
        "cost_micro_usd": min(limits.cost_micro_usd, cost) if cost else limits.cost_micro_usd,
    }
    return TurnAgent(
        agent_id=claim.agent_id,
        owner=claim.owner,
        claimed_step=claim.claimed_step,
        step=state.step,
        inbox=inbox,
        rounds=conversation.decisions,
        plan=state.plan,
        used=Used(
            steps=state.model_calls,
            tokens=state.input_tokens + state.output_tokens,
            cost_micro_usd=state.cost_micro_usd,
            replans=state.replans,
            wrong_replies=conversation.wrong_replies,
            repeats=conversation.repeats,
        ),
        limits=limits.model_copy(update=own),
        prices=definition.model.prices,
        protocol=definition.model.protocol,
        fingerprint=conversation.fingerprint,
        doubts=_doubts(state.plan, conversation.failed),
        doubted=conversation.doubted,
        depth=state.depth,
        children=state.children,
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
