"""An agent as it is seen from outside: put together from the items of its record."""

import json
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from agent.conversation import NOT_CARRIED_OUT, Item, Ledger, known_result, reason
from agent.definition import Definition
from agent.record import Call, CallResult, EffectStatus, Model, Outcome, PlanStep, Status
from workflows.journal import Entry, Role, corrections, outcome_text, read_journal


class _Sparse(Model):
    """Leaves out what is not there: a field that is None."""

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class Message(Model):
    """One thing that was said."""

    role: Role
    content: str


class Context(Model):
    """What the agent knows."""

    conversation_history: list[Message]


class PlanEntry(_Sparse):
    """A step of the agent's plan, or a tool call that it made. The calls come after the plan and are numbered on."""

    step: Annotated[int, Field(ge=1)]
    action: Annotated[str, Field(description="What is to be done, in the agent's words; TOOL_USE for a call")]
    tool_name: str | None = None
    parameters: dict[str, Any] | None = None
    status: Annotated[
        str,
        Field(
            description="PENDING, DONE or SKIPPED; of a call PENDING, its outcome, or COMPENSATED once it is undone "
            "(COMPENSATING before)"
        ),
    ]
    result: Any = None
    error: str | None = None


class ToolView(Model):
    """A tool that the agent has."""

    name: str
    description: str
    effect: Literal["read", "write"]


class Tokens(Model):
    """What the model read and wrote."""

    input: int
    output: int


class Metadata(_Sparse):
    """When, by whom, how often, at what cost."""

    created_at: str
    last_updated: str
    last_updated_by: Annotated[str, Field(description="An execution's ARN")]
    last_plan_generated_at: str | None
    last_tool_execution_at: str | None
    invocation_count: Annotated[int, Field(description="Turns")]
    error_count: Annotated[int, Field(description="Turns that failed")]
    model_calls: int
    tool_calls: int
    tokens: Tokens
    cost_usd: float


class Failure(Model):
    """Why the agent stands still."""

    name: str
    message: str


class AgentView(_Sparse):
    """An agent. `result`, `question` and `error` are there when its status says so."""

    agent_id: str
    agent: Annotated[str, Field(description="The definition's name")]
    definition_version: int
    status: Status
    goal: str
    result: str | None = None
    question: str | None = None
    error: Failure | None = None
    context: Context
    plan: list[PlanEntry]
    tools: list[ToolView]
    metadata: Metadata


def public_view(items: Iterable[Item], definition: Definition) -> AgentView:
    """The agent whose items these are; `definition` is the version that it started with.

    Raises ValueError if STATE is not among them.
    """
    items = list(items)
    state = next((item for item in items if item["record"] == "STATE"), None)
    if state is None:
        raise ValueError("The record has no STATE")
    ledger = {item["record"]: item for item in items if item["record"].startswith("EFFECT#")}
    journal = list(_settled(read_journal(items), ledger))
    decision = next((entry.decision for entry in reversed(journal) if entry.decision), None)
    message = decision.message if decision else None
    planned = [PlanStep.model_validate(step) for step in json.loads(state["plan"])]
    return AgentView(
        agent_id=state["agentId"],
        agent=state["agent"],
        definition_version=int(state["definitionVersion"]),
        status=Status(state["status"]),
        goal=state["goal"],
        result=message if state["status"] == Status.COMPLETED else None,
        question=_question(journal) if state["status"] == Status.WAITING_FOR_INPUT else None,
        error=Failure(name=state["error"], message=reason(state["errorMessage"])) if state["error"] else None,
        context=Context(conversation_history=list(_conversation(journal))),
        plan=[
            *(PlanEntry(step=step.step, action=step.action, status=step.status) for step in planned),
            *_calls(journal, ledger, after=max((step.step for step in planned), default=0)),
        ],
        tools=[ToolView(name=tool.name, description=tool.description, effect=tool.effect) for tool in definition.tools],
        metadata=Metadata(
            created_at=state["createdAt"],
            last_updated=state["lastUpdated"],
            last_updated_by=state["lastUpdatedBy"],
            last_plan_generated_at=state["lastPlanGeneratedAt"] or None,
            last_tool_execution_at=state["lastToolExecutionAt"] or None,
            invocation_count=int(state["invocationCount"]),
            error_count=int(state["errorCount"]),
            model_calls=int(state["modelCalls"]),
            tool_calls=int(state["toolCalls"]),
            tokens=Tokens(input=int(state["inputTokens"]), output=int(state["outputTokens"])),
            cost_usd=int(state["costMicroUsd"]) / 1_000_000,
        ),
    )


def _settled(journal: list[Entry], ledger: Ledger) -> Iterator[Entry]:
    """The journal with each result that was uncertain as the ledger knows it now."""
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
        yield from (Message(role="user", content=text) for text in entry.heard)
        yield from (Message(role="assistant", content=text) for text in _spoken(entry))
        if entry.decision:
            yield from (Message(role="tool_output", content=text) for text in corrections(entry.decision))
        yield from (Message(role="tool_output", content=outcome_text(result)) for result in entry.results)
        if entry.recovery and entry.recovery.text:
            yield Message(role="tool_output", content=entry.recovery.text)
        if entry.recovery and entry.recovery.question:
            yield Message(role="assistant", content=entry.recovery.question)


def _spoken(entry: Entry) -> list[str]:
    decision = entry.decision
    if decision and decision.action in ("ASK_USER", "COMPLETE", "GIVE_UP"):
        # The question, the result or the reason, and not the call that says it.
        return [*(entry.said if entry.uses else []), decision.message]
    return [*entry.said, *(json.dumps(use, ensure_ascii=False) for use in entry.uses)]


def _calls(journal: list[Entry], ledger: Ledger, after: int) -> Iterator[PlanEntry]:
    number = after
    for calls, results in _answered(journal):
        for call, result in zip_longest(calls, results):
            number += 1
            result = _as_known(call, result, ledger) if result else known_result(call, ledger)
            done = result is not None and result.outcome is Outcome.COMMITTED
            yield PlanEntry(
                step=number,
                action="TOOL_USE",
                tool_name=call.name,
                parameters=call.input,
                status=_undoing(call, ledger) or (result.outcome if result else "PENDING"),
                result=result.value if result and done else None,
                error=outcome_text(result) if result and not done else None,
            )


def _undoing(call: Call, ledger: Ledger) -> str:
    """How far its effect, or that of its alternative, is undone; empty if it is not to be."""
    tried: Call | None = call
    while tried:
        status = ledger.get(tried.key, {}).get("status", "")
        if status in (EffectStatus.COMPENSATING, EffectStatus.COMPENSATED):
            return status
        tried = tried.alternative
    return ""


def _answered(journal: list[Entry]) -> Iterator[tuple[list[Call], list[CallResult]]]:
    """The calls of each decision, and their results if there are any yet: a recovery may stand between the two.

    One that speaks to the model stands for the results: what was not carried out then never will be.
    """
    pending: list[Call] = []
    for entry in journal:
        if entry.results:
            yield pending, entry.results
            pending = []
        elif entry.recovery and entry.recovery.text:
            yield pending, [NOT_CARRIED_OUT for _ in pending]
            pending = []
        elif entry.decision:
            if pending:
                yield pending, []
            pending = entry.decision.calls
    if pending:
        yield pending, []


def _question(journal: list[Entry]) -> str | None:
    """What the user was asked last, by the model or by a recovery."""
    for entry in reversed(journal):
        if entry.recovery and entry.recovery.question:
            return entry.recovery.question
        if entry.decision:
            return entry.decision.message
    return None
