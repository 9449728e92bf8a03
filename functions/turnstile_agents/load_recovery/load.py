"""Folds the record into the situation that a recovery has to decide about. Pure."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from turnstile_agents.border import read_json, read_object
from turnstile_agents.caller import caller_of_input
from turnstile_agents.conversation import Item, is_words
from turnstile_agents.definition import TIMEOUT_MARGIN, Definition, OnUnknown, ReadDefinition, Tool
from turnstile_agents.errors import InvalidRecord, LeaseLost
from turnstile_agents.failures import kind_of
from turnstile_agents.family import ReadAbove, deserted
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
    OPERATOR,
    RESULT_UNKNOWN,
    AnswerRefused,
    EffectAnswer,
    OperatorAnswer,
    OperatorDecision,
    read_answer,
    unsettled,
)
from turnstile_agents.plain import visible
from turnstile_agents.record import KEY_KNOWN_DAYS, EffectStatus, step_record, undo_attempts, undo_record, undoes

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
    items: Iterable[Item],
    read_definition: ReadDefinition,
    read_above: ReadAbove,
    operator: OperatorQuestion,
) -> Situation:
    """Fold a record's items, in order of `record`, and an operator's answer if there is one.

    Raises LeaseLost if this recovery does not own the agent, InvalidRecord if there is no agent.
    """
    found = list(items)
    state = next((item for item in found if item["record"] == "STATE"), None)
    if state is None:
        raise InvalidRecord(f"Agent {taken.agent_id} has no STATE.")
    if state["owner"] != taken.owner:
        raise LeaseLost(f"{taken.owner} does not own agent {taken.agent_id}; {state['owner']} does.")
    definition = read_definition(state["agent"], int(state["definitionVersion"]))
    effects = [item for item in found if item["record"].startswith("EFFECT#")]
    open_effects = unsettled(effects)
    standing = [item for item in effects if EffectStatus(item["status"]) in _STANDING and not undoes(item["record"])]
    attempts_to_undo = undo_attempts({item["record"]: item for item in effects})
    steps = [item for item in found if item["record"].startswith("STEP#")]
    inputs = [item for item in found if item["record"].startswith("INPUT#")]
    heard = {record for item in steps if item["who"] == "MODEL" for record in json.loads(item["inputs"])}
    attempts = _attempts(steps)
    compensations = [
        undo
        for item in reversed(standing)
        if (undo := _undo(item, attempts_to_undo.get(item["record"], []), definition))
    ]
    undone = _untold(effects, attempts_to_undo, steps)
    undoable = {undo.key for undo in compensations}
    answered = "answer" in taken.model_fields_set
    answer, refusal = _hear(taken.answer, found, definition) if answered else (None, "")
    agent = {**taken.model_dump(exclude={"answer"}), "step": int(state["step"])}
    if answer:
        agent |= {"order": answer.decision, **answer.model_dump(include={"note", "by", "source"})}
    said = {effect.key: effect for effect in answer.effects} if answer else {}
    cancelled = int(state["cancels"]) > 0 or bool(deserted(state, read_above))
    if cancelled:
        agent |= _cancellation(inputs)
    return Situation(
        agent=RecoveryAgent(**agent),
        error=visible(state["error"]),
        kind=kind_of(state["error"]),
        record=step_record(int(state["step"]) + 1),
        # The cancellation is in the record, so a cancelled agent needs no valid answer.
        refused=bool(refusal) and not cancelled,
        unsettled=[
            _told(entry, said.get(entry.key)) if answered else entry
            for entry in (_unsettled(state, item, definition) for item in open_effects)
        ],
        calls_end_by=_calls_end_by(state, open_effects, definition),
        compensations=compensations,
        standing=bool(standing),
        undone=bool(undone),
        inbox=len(inputs),
        unheard=any(item["record"] not in heard for item in inputs if is_words(item)),
        cancelled=cancelled,
        child=bool(state["parent"]),
        attempts=attempts,
        back_off_seconds=min(2**attempts, LONGEST_BACK_OFF),
        limits=definition.limits,
        used=Replans(replans=int(state["replans"])),
        operator=operator.model_copy(update={"question_id": _next_question(found)}),
        texts=texts(
            state,
            effects,
            refusal,
            needed={item["record"]: _needed(item, definition) for item in open_effects},
            untold=undone,
            undone=[*undone, *(item for item in standing if item["record"] in undoable)],
            kept=[item for item in standing if item["record"] not in undoable],
        ),
    )


def _cancellation(inputs: list[Item]) -> dict[str, str]:
    """Return note and caller of the first cancellation in the inbox; empty if a parent's end cancels the agent."""
    wishes = [item for item in inputs if item["type"] == "AgentCancelRequested"]
    if not wishes:
        return {}
    first = min(wishes, key=lambda item: (item["time"], item["receivedAt"], item["record"]))
    caller = caller_of_input(first)
    return {
        "note": str(read_object(first["detail"]).get("note", ""))[:NOTE_LIMIT],
        "by": caller.by if caller else "",
        "source": caller.source if caller else "",
    }


def _attempts(steps: list[Item]) -> int:
    """Count the entries of recoveries at the end of the journal."""
    return next((place for place, item in enumerate(reversed(steps)) if item["who"] != "RECOVERY"), 0)


def _untold(effects: list[Item], attempts: Mapping[str, list[Item]], steps: list[Item]) -> list[Item]:
    """Return the effects undone since the last recovery with a text for the model: that text named all before them."""
    spoke = max((_moment(item["at"]) for item in steps if item["who"] == "RECOVERY" and item["text"]), default=None)
    return [
        item
        for item in effects
        if item["status"] == EffectStatus.COMPENSATED
        and (not spoke or any(_moment(undo["settledAt"]) > spoke for undo in attempts.get(item["record"], [])[-1:]))
    ]


def _next_question(items: list[Item]) -> str:
    """Return the number after the last question's. A reminder asks the same question again, so it needs no new one."""
    return str(1 + max((int(item["questionId"]) for item in items if item["record"] == OPERATOR), default=0))


def _hear(said: Any, items: list[Item], definition: Definition) -> tuple[OperatorAnswer | None, str]:
    """Return an operator's answer, or the reason why it is refused."""
    try:
        answer = read_answer(said, items)
        if answer.decision is OperatorDecision.COMPENSATE:
            _check_results(answer, items, definition)
    except AnswerRefused as refusal:
        return None, str(refusal)
    return answer, ""


def _check_results(answer: OperatorAnswer, items: list[Item], definition: Definition) -> None:
    """Check that effects that happened have the result that their compensation needs. Raises AnswerRefused."""
    without = {effect.key for effect in answer.effects if effect.happened and effect.result is None}
    for item in unsettled(items):
        if item["record"] in without and (needed := _needed(item, definition)):
            raise AnswerRefused(
                f"COMPENSATE can undo {item['record']} only with {', '.join(needed)} of its result. Give the result; "
                "with any other JSON value as the result, the effect stands and the user is told so"
            )


def _needed(item: Item, definition: Definition) -> list[str]:
    """Return the fields of a call's result that are needed to undo the call; [] if it cannot be undone."""
    compensation = _tool(definition, item["tool"]).compensation
    return sorted(set(compensation.arguments.values())) if compensation and not undoes(item["record"]) else []


def _told(entry: Unsettled, effect: EffectAnswer | None) -> Unsettled:
    """Return an unsettled effect after an operator's answer: settled as the operator says, or left unsettled."""
    if effect is None:
        return entry.model_copy(update={"on_unknown": "ask", "look_up": LookUp()})
    result = RESULT_UNKNOWN if effect.result is None else effect.result
    said = Said(happened=effect.happened, result=result if effect.happened else None)
    return entry.model_copy(update={"on_unknown": "told", "said": said, "denial": _DENIED_BY_OPERATOR})


def _tool(definition: Definition, name: str) -> Tool:
    return next(tool for tool in definition.tools if tool.name == name)


def _unsettled(state: Item, item: Item, definition: Definition) -> Unsettled:
    agent_id, tool = state["agentId"], _tool(definition, item["tool"])
    look_up = LookUp()
    if tool.reconcile:
        other = _tool(definition, tool.reconcile)
        look_up = LookUp(
            function=other.function,
            key=f"{agent_id}#{item['record']}#LOOKUP",
            timeout_seconds=other.timeout_seconds + TIMEOUT_MARGIN,
        )
    return Unsettled(
        key=item["record"],
        undoes=undoes(item["record"]),
        owner=item["owner"],
        full_key=f"{agent_id}#{item['record']}",
        tool=tool.name,
        function=item["function"],
        input=read_object(item["input"]),
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
        on_unknown=_on_unknown(tool, _moment(state["lastUpdated"]) - _moment(item["reservedAt"])),
        look_up=look_up,
        said=Said(),
        denial=_DENIED_BY_LOOK_UP,
    )


def _on_unknown(tool: Tool, age: timedelta) -> OnUnknown:
    """Return how to settle an entry of this age: a tool may have lost the key of an old call, and would act again."""
    if tool.on_unknown == "retry" and age > KEY_IS_SURE:
        return "reconcile" if tool.reconcile else "ask"
    return tool.on_unknown


def _undo(item: Item, attempts: list[Item], definition: Definition) -> Undo | None:
    """Return the next attempt to undo an effect.

    A failed attempt did nothing, so the next attempt gets a new key. An attempt of any other status keeps its key, so
    that no second attempt can be reserved beside it.
    """
    compensation = _tool(definition, item["tool"]).compensation
    if compensation is None:
        return None
    tool = _tool(definition, compensation.tool)
    failed = [attempt for attempt in attempts if attempt["status"] == EffectStatus.FAILED]
    result = read_json(item["result"])
    if not isinstance(result, dict) or not set(compensation.arguments.values()) <= result.keys():
        # The result lacks a field that the definition expects: the effect stands, and the operator is asked.
        return None
    return Undo(
        key=item["record"],
        undo_key=undo_record(item["record"], len(failed) + 1),
        tool=tool.name,
        function=tool.function,
        input={argument: result[field] for argument, field in compensation.arguments.items()},
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
    )


def _calls_end_by(state: Item, open_effects: list[Item], definition: Definition) -> str:
    """Return the time at which no call of these entries can be running any more, in whole seconds.

    A function ends by its own timeout after the last attempt has begun. The last attempt begins before the agent was
    taken over, because a lease is taken from an execution that has ended. It also begins within CALL_ATTEMPTS of the
    reservation, unless a recovery before this one has called again (`onUnknown: retry`): no entry says when that was.
    A call that this recovery made itself, to undo an effect, began after the agent was taken over.
    Calls whose end the machine has seen are left out.
    """
    taken_over = _moment(state["lastUpdated"])
    ends = [taken_over]
    for item in open_effects:
        tool = _tool(definition, item["tool"])
        if _has_ended(item, tool):
            continue
        seconds = timedelta(seconds=tool.timeout_seconds + TIMEOUT_MARGIN)
        called = _moment(item["reservedAt"]) + RESERVATION
        last_attempt = called + (CALL_ATTEMPTS - 1) * seconds + CALL_PAUSES
        if item["owner"] != state["owner"]:
            last_attempt = taken_over if tool.on_unknown == "retry" else min(taken_over, last_attempt)
        elif settled := item.get("settledAt"):
            # This recovery recorded that the end of its own call is not known: no attempt begins after that.
            last_attempt = min(last_attempt, _moment(settled))
        ends.append(last_attempt + seconds)
    # A part of a second counts as a whole one, so that the wait does not end before the call.
    return (max(ends) + timedelta(microseconds=999_999)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _has_ended(item: Item, tool: Tool) -> bool:
    """Return whether the error of an effect proves that its function ended: by an exception, or by its own timeout.

    It proves nothing if Lambda did not answer, and nothing for `retry`: a recovery may have called again since.
    """
    error = item["error"]
    silent = not error or error.startswith("Lambda.") or (error.startswith("States.") and error not in _FUNCTION_ENDED)
    return not silent and tool.on_unknown != "retry"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
