"""Folds the record into the situation that a recovery has to decide about. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from turnstile_agents.border import read_json
from turnstile_agents.caller import caller_of_input
from turnstile_agents.definition import TIMEOUT_MARGIN, Definition, OnUnknown, ReadDefinition, Tool
from turnstile_agents.errors import InvalidRecord, LeaseLost
from turnstile_agents.failures import kind_of
from turnstile_agents.family import ReadState, deserted
from turnstile_agents.items import AgentState, Effect, InputItem, ModelStep, Record, RecoveryStep, StepItem
from turnstile_agents.load_recovery.shapes import (
    LoadRecoveryInput,
    LookUp,
    OperatorQuestion,
    RecoveryAgent,
    Replans,
    Said,
    Situation,
    Undo,
    Unsettled,
)
from turnstile_agents.load_recovery.texts import texts
from turnstile_agents.operator import (
    NOTE_LIMIT,
    RESULT_UNKNOWN,
    AnswerRefused,
    EffectAnswer,
    OperatorAnswer,
    OperatorDecision,
    read_answer,
)
from turnstile_agents.plain import visible
from turnstile_agents.record import KEY_KNOWN_DAYS, EffectStatus, step_record, undo_attempts, undo_record

LONGEST_BACK_OFF = 300
"""Seconds."""
RESERVATION = timedelta(seconds=90)
"""How long ReserveEffect and ReserveUndo may take: 5 attempts of 15 s, and pauses of 1, 2, 4 and 8 s between them."""
CALL_ATTEMPTS = 4
"""Attempts of CallWriteTool, CallUndo and CallAgain, the first included."""
CALL_PAUSES = timedelta(seconds=7)
"""The pauses between these attempts: 1, 2 and 4 s."""
KEY_IS_SURE = timedelta(days=KEY_KNOWN_DAYS - 1)
"""Time since the reservation; after it no call is made again by its key."""
_DENIED_BY_LOOK_UP = "The call was cut off before it took effect."
_DENIED_BY_OPERATOR = "The operator says that the call did not take effect."
_FUNCTION_ENDED = {"States.DataLimitExceeded", "States.Timeout"}
"""Errors of Step Functions after which the function has ended: a task waits TIMEOUT_MARGIN longer than the function."""
_STANDING = {EffectStatus.COMMITTED, EffectStatus.COMPENSATING}


def load_recovery(
    taken: LoadRecoveryInput,
    record: Record,
    read_definition: ReadDefinition,
    read_state: ReadState,
    operator: OperatorQuestion,
) -> Situation:
    """Fold a record, and an operator's answer if there is one. `read_state` reads the agents above.

    Raises LeaseLost if this recovery does not own the agent, InvalidRecord if there is no agent.
    """
    state = record.state
    if state is None:
        raise InvalidRecord(f"Agent {taken.agent_id} has no STATE.")
    if state.owner != taken.owner:
        raise LeaseLost(f"{taken.owner} does not own agent {taken.agent_id}; {state.owner} does.")
    definition = read_definition(state.agent, state.definition_version)
    effects, open_effects = record.effects, record.unsettled
    standing = [effect for effect in effects if effect.status in _STANDING and not effect.undoes]
    attempts_to_undo = undo_attempts(record.ledger)
    heard = {name for step in record.steps if isinstance(step, ModelStep) for name in step.inputs}
    attempts = _attempts(record.steps)
    compensations = [
        undo
        for effect in reversed(standing)
        if (undo := _undo(effect, attempts_to_undo.get(effect.record, []), definition))
    ]
    undone = _untold(effects, attempts_to_undo, record.steps)
    undoable = {undo.key for undo in compensations}
    answered = "answer" in taken.model_fields_set
    answer, refusal = _hear(taken.answer, effects, definition) if answered else (None, "")
    agent = {**taken.model_dump(exclude={"answer"}), "step": state.step}
    if answer:
        agent |= {"order": answer.decision, **answer.model_dump(include={"note", "by", "source"})}
    said = {effect.key: effect for effect in answer.effects} if answer else {}
    cancelled = state.cancels > 0 or bool(deserted(state, read_state))
    if cancelled:
        agent |= _cancellation(record.inputs)
    return Situation(
        agent=RecoveryAgent(**agent),
        error=visible(state.error),
        kind=kind_of(state.error),
        record=step_record(state.step + 1),
        # The cancellation is in the record, so a cancelled agent needs no valid answer.
        refused=bool(refusal) and not cancelled,
        unsettled=[
            _told(entry, said.get(entry.key)) if answered else entry
            for entry in (_unsettled(state, effect, definition) for effect in open_effects)
        ],
        calls_end_by=_calls_end_by(state, open_effects, definition),
        compensations=compensations,
        standing=bool(standing),
        undone=bool(undone),
        inbox=len(record.inputs),
        unheard=any(item.record not in heard for item in record.inputs if item.is_text),
        cancelled=cancelled,
        child=bool(state.parent),
        attempts=attempts,
        back_off_seconds=min(2**attempts, LONGEST_BACK_OFF),
        limits=definition.limits,
        used=Replans(replans=state.replans),
        operator=operator.model_copy(update={"question_id": _next_question(record)}),
        texts=texts(
            state,
            effects,
            refusal,
            needed={effect.record: _needed(effect, definition) for effect in open_effects},
            untold=undone,
            undone=[*undone, *(effect for effect in standing if effect.record in undoable)],
            kept=[effect for effect in standing if effect.record not in undoable],
        ),
    )


def _cancellation(inputs: list[InputItem]) -> dict[str, str]:
    """Return note and caller of the first cancellation in the inbox; empty if a parent's end cancels the agent."""
    requests = [item for item in inputs if item.type == "AgentCancelRequested"]
    if not requests:
        return {}
    first = min(requests, key=lambda item: item.order)
    caller = caller_of_input(first)
    return {
        "note": first.note[:NOTE_LIMIT],
        "by": caller.by if caller else "",
        "source": caller.source if caller else "",
    }


def _attempts(steps: list[StepItem]) -> int:
    """Count the entries of recoveries at the end of the journal."""
    return next((place for place, step in enumerate(reversed(steps)) if step.who != "RECOVERY"), 0)


def _untold(effects: list[Effect], attempts: Mapping[str, list[Effect]], steps: list[StepItem]) -> list[Effect]:
    """Return the effects undone since the last recovery with a text for the model: that text named all before them."""
    spoke = max((_moment(step.at) for step in steps if isinstance(step, RecoveryStep) and step.text), default=None)
    return [
        effect
        for effect in effects
        if effect.status is EffectStatus.COMPENSATED
        and (not spoke or any(_moment(undo.settled_at) > spoke for undo in attempts.get(effect.record, [])[-1:]))
    ]


def _next_question(record: Record) -> str:
    """Return the number after the last question's. A reminder asks the same question again, so it needs no new one."""
    return str(1 + (int(record.question.question_id) if record.question else 0))


def _hear(said: Any, ledger: list[Effect], definition: Definition) -> tuple[OperatorAnswer | None, str]:
    """Return an operator's answer, or the reason why it is refused."""
    try:
        answer = read_answer(said, ledger)
        if answer.decision is OperatorDecision.COMPENSATE:
            _check_results(answer, ledger, definition)
    except AnswerRefused as refusal:
        return None, str(refusal)
    return answer, ""


def _check_results(answer: OperatorAnswer, ledger: list[Effect], definition: Definition) -> None:
    """Check that effects that happened have the result that their compensation needs. Raises AnswerRefused."""
    without = {told.key for told in answer.effects if told.happened and told.result is None}
    for effect in ledger:
        if effect.unsettled and effect.record in without and (needed := _needed(effect, definition)):
            raise AnswerRefused(
                f"COMPENSATE can undo {effect.record} only with {', '.join(needed)} of its result. Give the result; "
                "with any other JSON value as the result, the effect stands and the user is told so"
            )


def _needed(effect: Effect, definition: Definition) -> list[str]:
    """Return the fields of a call's result that are needed to undo the call; [] if it cannot be undone."""
    compensation = _tool(definition, effect.tool).compensation
    return sorted(set(compensation.arguments.values())) if compensation and not effect.undoes else []


def _told(entry: Unsettled, effect: EffectAnswer | None) -> Unsettled:
    """Return an unsettled effect after an operator's answer: settled as the operator says, or left unsettled."""
    if effect is None:
        return entry.model_copy(update={"on_unknown": "ask", "look_up": LookUp()})
    result = RESULT_UNKNOWN if effect.result is None else effect.result
    said = Said(happened=effect.happened, result=result if effect.happened else None)
    return entry.model_copy(update={"on_unknown": "told", "said": said, "denial": _DENIED_BY_OPERATOR})


def _tool(definition: Definition, name: str) -> Tool:
    return next(tool for tool in definition.tools if tool.name == name)


def _unsettled(state: AgentState, effect: Effect, definition: Definition) -> Unsettled:
    agent_id, tool = state.agent_id, _tool(definition, effect.tool)
    look_up = LookUp()
    if tool.reconcile:
        other = _tool(definition, tool.reconcile)
        look_up = LookUp(
            function=other.function,
            key=f"{agent_id}#{effect.record}#LOOKUP",
            timeout_seconds=other.timeout_seconds + TIMEOUT_MARGIN,
        )
    return Unsettled(
        key=effect.record,
        undoes=effect.undoes,
        owner=effect.owner,
        full_key=f"{agent_id}#{effect.record}",
        tool=tool.name,
        function=effect.function,
        input=effect.arguments,
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
        on_unknown=_on_unknown(tool, _moment(state.last_updated) - _moment(effect.reserved_at)),
        look_up=look_up,
        said=Said(),
        denial=_DENIED_BY_LOOK_UP,
    )


def _on_unknown(tool: Tool, age: timedelta) -> OnUnknown:
    """Return how to settle an entry of this age: a tool may have lost the key of an old call, and would act again."""
    if tool.on_unknown == "retry" and age > KEY_IS_SURE:
        return "reconcile" if tool.reconcile else "ask"
    return tool.on_unknown


def _undo(effect: Effect, attempts: list[Effect], definition: Definition) -> Undo | None:
    """Return the next attempt to undo an effect.

    A failed attempt did nothing, so the next attempt gets a new key. An attempt of any other status keeps its key, so
    that no second attempt can be reserved beside it.
    """
    compensation = _tool(definition, effect.tool).compensation
    if compensation is None:
        return None
    tool = _tool(definition, compensation.tool)
    failed = [attempt for attempt in attempts if attempt.status is EffectStatus.FAILED]
    result = read_json(effect.result)
    if not isinstance(result, dict) or not set(compensation.arguments.values()) <= result.keys():
        # The result lacks a field that the definition expects: the effect stands, and the operator is asked.
        return None
    return Undo(
        key=effect.record,
        undo_key=undo_record(effect.record, len(failed) + 1),
        tool=tool.name,
        function=tool.function,
        input={argument: result[field] for argument, field in compensation.arguments.items()},
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
    )


def _calls_end_by(state: AgentState, open_effects: list[Effect], definition: Definition) -> str:
    """Return the time at which no call of these entries can be running any more, in whole seconds.

    A function ends by its own timeout after the last attempt has begun. The last attempt begins before the agent was
    taken over, because a lease is taken from an execution that has ended. It also begins within CALL_ATTEMPTS of the
    reservation, unless a recovery before this one has called again (`onUnknown: retry`): no entry says when that was.
    A call that this recovery made itself, to undo an effect, began after the agent was taken over.
    Calls whose end the machine has seen are left out.
    """
    taken_over = _moment(state.last_updated)
    ends = [taken_over]
    for effect in open_effects:
        tool = _tool(definition, effect.tool)
        if _has_ended(effect, tool):
            continue
        seconds = timedelta(seconds=tool.timeout_seconds + TIMEOUT_MARGIN)
        called = _moment(effect.reserved_at) + RESERVATION
        last_attempt = called + (CALL_ATTEMPTS - 1) * seconds + CALL_PAUSES
        if effect.owner != state.owner:
            last_attempt = taken_over if tool.on_unknown == "retry" else min(taken_over, last_attempt)
        elif effect.settled_at:
            # This recovery recorded that the end of its own call is not known: no attempt begins after that.
            last_attempt = min(last_attempt, _moment(effect.settled_at))
        ends.append(last_attempt + seconds)
    # A part of a second counts as a whole one, so that the wait does not end before the call.
    return (max(ends) + timedelta(microseconds=999_999)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _has_ended(effect: Effect, tool: Tool) -> bool:
    """Return whether the error of an effect proves that its function ended: by an exception, or by its own timeout.

    It proves nothing if Lambda did not answer, and nothing for `retry`: a recovery may have called again since.
    """
    error = effect.error
    silent = not error or error.startswith("Lambda.") or (error.startswith("States.") and error not in _FUNCTION_ENDED)
    return not silent and tool.on_unknown != "retry"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
