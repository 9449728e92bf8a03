"""The public view of an agent, made from the items of its record."""

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from turnstile_agents.caller import Caller, caller_of, caller_of_input
from turnstile_agents.conversation import NOT_CARRIED_OUT, known_result, reason
from turnstile_agents.definition import Definition
from turnstile_agents.items import AgentState, Effect, Ledger, Record
from turnstile_agents.journal import Entry, Role, Ruling, corrections, outcome_text, read_journal
from turnstile_agents.record import (
    Call,
    CallResult,
    Decision,
    EffectStatus,
    Model,
    Outcome,
    Status,
    Verdict,
    undo_attempts,
)

_REFUSALS = {Verdict.REFUSE: "REFUSED", Verdict.EXPIRE: "EXPIRED"}


class _Sparse(Model):
    """A model whose output leaves out each field that is None."""

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class Message(_Sparse):
    """One message of the conversation."""

    role: Role
    content: str
    caller: Annotated[Caller | None, Field(description="The caller that sent it, if the event named one")] = None


class Context(Model):
    """The agent's context: its conversation."""

    conversation_history: list[Message]


class PlanEntry(_Sparse):
    """A step of the agent's plan, or a tool call that it made. The calls come after the plan; their numbers go on."""

    step: Annotated[int, Field(ge=1)]
    action: Annotated[str, Field(description="What is to be done, in the agent's words; TOOL_USE for a call")]
    tool_name: str | None = None
    parameters: dict[str, Any] | None = None
    status: Annotated[
        str,
        Field(
            description="Of a step: PENDING, DONE or SKIPPED. Of a call: PENDING, its outcome, REFUSED or EXPIRED if "
            "it needed approval and got none, or COMPENSATED once it is undone (COMPENSATING before)"
        ),
    ]
    result: Any = None
    error: str | None = None
    unsettled: Annotated[
        str | None,
        Field(description="The key of the call, or of its undo, if it is not known whether that happened"),
    ] = None
    undo_error: Annotated[
        str | None, Field(description="Why the last attempt to undo it failed, or why its outcome is not known")
    ] = None


class ToolView(Model):
    """A tool that the agent has."""

    name: str
    description: str
    effect: Literal["read", "write"]


class Tokens(Model):
    """The tokens that the model read and wrote."""

    input: int
    output: int


class Metadata(_Sparse):
    """The agent's times, counts and cost."""

    created_at: str
    last_updated: str
    last_updated_by: Annotated[str, Field(description="The ARN of an execution")]
    last_plan_generated_at: str | None
    last_tool_execution_at: str | None
    invocation_count: Annotated[int, Field(description="Number of turns")]
    error_count: Annotated[int, Field(description="Number of turns that failed")]
    model_calls: int
    tool_calls: int
    tokens: Tokens
    cost_usd: float


class Failure(Model):
    """The error that stopped the agent."""

    name: str
    message: str


class AlternativeCall(Model):
    """A call that is made instead if the calls before it are unavailable."""

    tool_name: str
    function: Annotated[str, Field(description="The Lambda's name or ARN")]
    parameters: dict[str, Any]


class AskedCall(AlternativeCall):
    """A call that waits for its own approval, or for the approval of another call beside it."""

    alternatives: Annotated[
        list[AlternativeCall],
        Field(description="Calls that an approval allows too, in order: each if the call before it is unavailable"),
    ]
    approval: Annotated[bool, Field(description="Whether the call itself needs approval")]


class ApprovalView(Model):
    """The calls that an approver has to decide about."""

    approval_id: str
    calls: list[AskedCall]


class UncertainEffect(Model):
    """A call that may or may not have taken effect."""

    key: Annotated[str, Field(description="The key by which an operator's decision names it")]
    tool_name: str
    parameters: dict[str, Any]
    since: Annotated[str, Field(description="When the call began")]


class OperatorView(Model):
    """The question that an operator has to decide."""

    question_id: Annotated[str, Field(description="A decision names it, so that it answers no other question")]
    text: str
    uncertain: Annotated[
        list[UncertainEffect], Field(description="Each decision but ABORT must say whether they happened")
    ]


class AgentView(_Sparse):
    """An agent. `result`, `question`, `approval`, `operator` and `error` are present in the statuses that need them."""

    agent_id: str
    agent: Annotated[str, Field(description="The definition's name")]
    definition_version: int
    status: Status
    goal: str
    caller: Annotated[Caller | None, Field(description="The caller that started it, if the event named one")] = None
    result: str | None = None
    question: str | None = None
    approval: ApprovalView | None = None
    operator: OperatorView | None = None
    error: Failure | None = None
    parent: Annotated[str | None, Field(description="The agent that delegated to it")] = None
    children: Annotated[list[str] | None, Field(description="The agents that it delegated to, in order")] = None
    context: Context
    plan: list[PlanEntry]
    tools: list[ToolView]
    metadata: Metadata


def public_view(state: AgentState, record: Record, definition: Definition) -> AgentView:
    """Make the view of an agent from its STATE and its record; `definition` is the version that it started with."""
    ledger = record.ledger
    journal = list(_settled(read_journal(record), ledger))
    decision = next((entry.decision for entry in reversed(journal) if entry.decision), None)
    message = decision.message if decision else None
    return AgentView(
        agent_id=state.agent_id,
        agent=state.agent,
        definition_version=state.definition_version,
        status=state.status,
        goal=state.goal,
        caller=caller_of(state.by, state.source),
        result=message if state.status is Status.COMPLETED else None,
        question=_question(journal) if state.status is Status.WAITING_FOR_INPUT else None,
        approval=_approval(decision, state.waits_for) if state.status is Status.WAITING_FOR_APPROVAL else None,
        operator=_operator(record) if state.status is Status.WAITING_FOR_OPERATOR else None,
        error=Failure(name=state.error, message=reason(state.error_message)) if state.error else None,
        parent=state.parent or None,
        children=state.children or None,
        context=Context(conversation_history=[*_conversation(journal), *_cancelled(state, record)]),
        plan=[
            *(PlanEntry(step=step.step, action=step.action, status=step.status) for step in state.plan),
            *_calls(journal, ledger, after=max((step.step for step in state.plan), default=0)),
        ],
        tools=[ToolView(name=tool.name, description=tool.description, effect=tool.effect) for tool in definition.tools],
        metadata=Metadata(
            created_at=state.created_at,
            last_updated=state.last_updated,
            last_updated_by=state.last_updated_by,
            last_plan_generated_at=state.last_plan_generated_at or None,
            last_tool_execution_at=state.last_tool_execution_at or None,
            invocation_count=state.invocation_count,
            error_count=state.error_count,
            model_calls=state.model_calls,
            tool_calls=state.tool_calls,
            tokens=Tokens(input=state.input_tokens, output=state.output_tokens),
            cost_usd=state.cost_micro_usd / 1_000_000,
        ),
    )


def _approval(decision: Decision | None, approval_id: str) -> ApprovalView | None:
    if decision is None:
        return None
    calls = [
        AskedCall(
            tool_name=call.name,
            function=call.function,
            parameters=call.input,
            alternatives=[
                AlternativeCall(tool_name=other.name, function=other.function, parameters=other.input)
                for other in call.alternatives
            ],
            approval=call.approval,
        )
        for call in decision.calls
    ]
    return ApprovalView(approval_id=approval_id, calls=calls)


def _operator(record: Record) -> OperatorView | None:
    """Return the question to the operator; None if the recovery has not put it yet."""
    asked = record.question
    if asked is None:
        return None
    uncertain = [
        UncertainEffect(key=effect.record, tool_name=effect.tool, parameters=effect.arguments, since=effect.reserved_at)
        for effect in record.unsettled
    ]
    return OperatorView(question_id=asked.question_id, text=asked.question, uncertain=uncertain)


def _settled(journal: list[Entry], ledger: Ledger) -> Iterator[Entry]:
    """Yield the journal's entries; each result that was uncertain is taken from the ledger as it is now."""
    calls: list[Call] = []
    for entry in journal:
        calls = entry.decision.calls if entry.decision else calls
        pairs = zip(calls, entry.results, strict=False)
        yield entry.model_copy(update={"results": [_as_known(call, result, ledger) for call, result in pairs]})


def _as_known(call: Call, result: CallResult, ledger: Ledger) -> CallResult:
    if result.outcome is not Outcome.UNCERTAIN and result != NOT_CARRIED_OUT:
        return result
    return known_result(call, ledger) or (result if call.key in ledger else NOT_CARRIED_OUT)


def _conversation(journal: list[Entry]) -> Iterator[Message]:
    for entry in journal:
        if entry.ruling:
            # An expired approval is a system message, not the user's.
            role: Role = "tool_output" if entry.ruling.decision is Verdict.EXPIRE else "user"
            yield Message(role=role, content=entry.ruling.text, caller=entry.ruling.caller)
        yield from (Message(role="tool_output", content=text) for text in entry.reported)
        yield from (Message(role="user", content=words.text, caller=words.caller) for words in entry.heard)
        yield from (Message(role="assistant", content=text) for text in _spoken(entry))
        if entry.decision:
            yield from (Message(role="tool_output", content=text) for text in corrections(entry.decision))
        yield from (Message(role="tool_output", content=outcome_text(result)) for result in entry.results)
        if entry.recovery and entry.recovery.text:
            yield Message(role="tool_output", content=entry.recovery.text)
        if entry.recovery and entry.recovery.question:
            yield Message(role="assistant", content=entry.recovery.question)


def _cancelled(state: AgentState, record: Record) -> Iterator[Message]:
    """Yield the messages that cancelled the agent: no entry of the journal takes them in."""
    if state.status is not Status.CANCELLED:
        return
    requests = [item for item in record.inputs if item.type == "AgentCancelRequested"]
    for item in requests:
        content = f"CANCEL: {item.note}" if item.note else "CANCEL"
        yield Message(role="user", content=content, caller=caller_of_input(item))
    if not requests and state.parent:
        yield Message(role="user", content=f"CANCEL: {state.parent}, or an agent above it, has ended.")


def _spoken(entry: Entry) -> list[str]:
    decision = entry.decision
    if decision and decision.action in ("ASK_USER", "COMPLETE", "GIVE_UP"):
        # Show the question, the result or the reason, not the tool use that holds it.
        return [*(entry.said if entry.uses else []), decision.message]
    return [*entry.said, *(json.dumps(use, ensure_ascii=False) for use in entry.uses)]


def _calls(journal: list[Entry], ledger: Ledger, after: int) -> Iterator[PlanEntry]:
    number = after
    attempts = undo_attempts(ledger)
    for calls, results, ruling in _answered(journal):
        refused = _REFUSALS.get(ruling.decision, "") if ruling else ""
        for call, result in zip_longest(calls, results):
            number += 1
            result = _as_known(call, result, ledger) if result else known_result(call, ledger)
            done = result is not None and result.outcome is Outcome.COMMITTED
            yield PlanEntry(
                step=number,
                action="TOOL_USE",
                tool_name=call.name,
                parameters=call.input,
                status=refused or _undoing(call, ledger) or (result.outcome if result else _begun(call, ledger)),
                result=result.value if result and done else None,
                error=ruling.text if ruling and refused else outcome_text(result) if result and not done else None,
                unsettled=_unsettled(call, ledger, attempts),
                undo_error=_undo_error(call, attempts),
            )


def _begun(call: Call, ledger: Ledger) -> str:
    """Return the status of a call without a result. A recovery may have marked it UNCERTAIN in the ledger only."""
    tried: Call | None = call
    while tried:
        if (effect := ledger.get(tried.key)) and effect.status is EffectStatus.UNCERTAIN:
            return Outcome.UNCERTAIN
        tried = tried.alternative
    return "PENDING"


def _undoing(call: Call, ledger: Ledger) -> str:
    """Return COMPENSATING or COMPENSATED for a call whose effect, or its alternative's, is being undone; else empty."""
    tried: Call | None = call
    while tried:
        effect = ledger.get(tried.key)
        if effect and effect.status in (EffectStatus.COMPENSATING, EffectStatus.COMPENSATED):
            return effect.status
        tried = tried.alternative
    return ""


def _unsettled(call: Call, ledger: Ledger, attempts: Mapping[str, list[Effect]]) -> str | None:
    """Return the key of the call, of its alternative or of an undo whose end is not known; None if there is none."""
    tried: Call | None = call
    while tried:
        entries = [ledger[tried.key], *attempts.get(tried.key, [])] if tried.key in ledger else []
        for entry in entries:
            if entry.status is EffectStatus.UNCERTAIN:
                return entry.record
        tried = tried.alternative
    return None


def _undo_error(call: Call, attempts: Mapping[str, list[Effect]]) -> str | None:
    """Say why the effect of a call, or of its alternative, is not undone; None if no undo was tried, or it worked."""
    tried: Call | None = call
    while tried:
        for last in attempts.get(tried.key, [])[-1:]:
            why = f": {last.error}: {reason(last.error_message)}" if last.error else ""
            if last.status is EffectStatus.FAILED:
                return f"{last.tool} did not undo it{why}"
            if last.status is EffectStatus.UNCERTAIN:
                return f"It is not known whether {last.tool} undid it{why}"
        tried = tried.alternative
    return None


def _answered(journal: list[Entry]) -> Iterator[tuple[list[Call], list[CallResult], Ruling | None]]:
    """Yield the calls of each decision with their results, if there are any: a recovery may come between the two.

    A recovery with a text for the model replaces the results: calls that were not carried out then never will be. So
    does a ruling that does not approve the calls.
    """
    pending: list[Call] = []
    for entry in journal:
        if entry.results:
            yield pending, entry.results, None
            pending = []
        elif entry.recovery and entry.recovery.text:
            yield pending, [NOT_CARRIED_OUT for _ in pending], None
            pending = []
        elif entry.decision:
            if pending:
                yield pending, [], entry.ruling
            pending = entry.decision.calls
    if pending:
        yield pending, [], None


def _question(journal: list[Entry]) -> str | None:
    """Return the last question to the user, by the model or by a recovery."""
    for entry in reversed(journal):
        if entry.recovery and entry.recovery.question:
            return entry.recovery.question
        if entry.decision:
            return entry.decision.message
    return None
