"""What a recovery has to know, told by nothing but the record. Pure."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta

from agent.border import read_json, read_object
from agent.conversation import Item, is_words
from agent.definition import TIMEOUT_MARGIN, Definition, OnUnknown, ReadDefinition, Tool
from agent.errors import InvalidRecord, LeaseLost
from agent.family import ReadAbove, deserted
from agent.record import KEY_KNOWN_DAYS, EffectStatus, step_record, undo_attempts, undo_record, undoes
from load_recovery.shapes import Agent, LookUp, Operator, Replans, Situation, Taken, Undo, Unsettled
from load_recovery.texts import texts

LONGEST_BACK_OFF = 300
"""Seconds."""
RESERVATION = timedelta(seconds=90)
"""How long ReserveEffect and ReserveUndo may take: 5 attempts of 15 s, and pauses of 1, 2, 4 and 8 s between them."""
CALL_ATTEMPTS = 4
"""Attempts of CallWriteTool, CallUndo and CallAgain, the first included."""
CALL_PAUSES = timedelta(seconds=7)
"""The pauses between these attempts: 1, 2 and 4 s."""
KEY_IS_SURE = timedelta(days=KEY_KNOWN_DAYS - 1)
"""Since the reservation; after it no call is made again by its key."""
_UNSETTLED = {EffectStatus.RESERVED, EffectStatus.UNCERTAIN}
_STANDING = {EffectStatus.COMMITTED, EffectStatus.COMPENSATING}


def load_recovery(
    taken: Taken, items: Iterable[Item], read_definition: ReadDefinition, read_above: ReadAbove, operator: Operator
) -> Situation:
    """Folds a record's items, in order of `record`.

    Raises LeaseLost if this recovery does not own the agent, InvalidRecord if there is none.
    """
    found = list(items)
    state = next((item for item in found if item["record"] == "STATE"), None)
    if state is None:
        raise InvalidRecord(f"Agent {taken.agent_id} has no STATE.")
    if state["owner"] != taken.owner:
        raise LeaseLost(f"{taken.owner} does not own agent {taken.agent_id}; {state['owner']} does.")
    definition = read_definition(state["agent"], int(state["definitionVersion"]))
    effects = [item for item in found if item["record"].startswith("EFFECT#")]
    unsettled = [item for item in effects if EffectStatus(item["status"]) in _UNSETTLED]
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
    told = _told(steps)
    undone = [item for item in effects if item["status"] == EffectStatus.COMPENSATED and _step(item) > told]
    undoable = {undo.key for undo in compensations}
    return Situation(
        agent=Agent(**taken.model_dump(), step=int(state["step"])),
        error=state["error"],
        record=step_record(int(state["step"]) + 1),
        unsettled=[_unsettled(state, item, definition) for item in unsettled],
        calls_end_by=_calls_end_by(state, unsettled, definition),
        compensations=compensations,
        standing=bool(standing),
        undone=bool(undone),
        inbox=len(inputs),
        unheard=any(item["record"] not in heard for item in inputs if is_words(item)),
        cancelled=int(state["cancels"]) > 0 or bool(deserted(state, read_above)),
        child=bool(state["parent"]),
        attempts=attempts,
        back_off_seconds=min(2**attempts, LONGEST_BACK_OFF),
        limits=definition.limits,
        used=Replans(replans=int(state["replans"])),
        operator=operator,
        texts=texts(
            state,
            effects,
            undone=[*undone, *(item for item in standing if item["record"] in undoable)],
            kept=[item for item in standing if item["record"] not in undoable],
        ),
    )


def _attempts(steps: list[Item]) -> int:
    """The entries of recoveries at the end of the journal."""
    return next((place for place, item in enumerate(reversed(steps)) if item["who"] != "RECOVERY"), 0)


def _step(item: Item) -> int:
    return int(item["record"].split("#")[1])


def _told(steps: list[Item]) -> int:
    """The last step that told of effects that were undone; 0 if none did."""
    return max((_step(item) for item in steps if item.get("action") == "COMPENSATE"), default=0)


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
        full_key=f"{agent_id}#{item['record']}",
        tool=tool.name,
        function=item["function"],
        input=read_object(item["input"]),
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
        on_unknown=_on_unknown(tool, _moment(state["lastUpdated"]) - _moment(item["reservedAt"])),
        look_up=look_up,
    )


def _on_unknown(tool: Tool, age: timedelta) -> OnUnknown:
    """A tool may have forgotten the key of an old call, and would act again."""
    if tool.on_unknown == "retry" and age > KEY_IS_SURE:
        return "reconcile" if tool.reconcile else "ask"
    return tool.on_unknown


def _undo(item: Item, attempts: list[Item], definition: Definition) -> Undo | None:
    """Return the next attempt to undo an effect.

    An attempt that failed did nothing and is followed by another one. An attempt of any other status keeps its key, so
    that no second one can be reserved beside it.
    """
    compensation = _tool(definition, item["tool"]).compensation
    if compensation is None:
        return None
    tool = _tool(definition, compensation.tool)
    failed = [attempt for attempt in attempts if attempt["status"] == EffectStatus.FAILED]
    result = read_json(item["result"])
    if not isinstance(result, dict) or not set(compensation.arguments.values()) <= result.keys():
        # The result is not what the definition expects of it: it stands, and a person is asked.
        return None
    return Undo(
        key=item["record"],
        undo_key=undo_record(item["record"], len(failed) + 1),
        tool=tool.name,
        function=tool.function,
        input={argument: result[field] for argument, field in compensation.arguments.items()},
        timeout_seconds=tool.timeout_seconds + TIMEOUT_MARGIN,
    )


def _calls_end_by(state: Item, unsettled: list[Item], definition: Definition) -> str:
    """Return the time at which no call of these entries can be running any more, in whole seconds.

    A function ends by its own timeout after the last attempt has begun. The last attempt begins before the agent was
    taken over, because a lease is taken from an execution that has ended. It also begins within CALL_ATTEMPTS of the
    reservation, unless a recovery before this one has called again (`onUnknown: retry`): no entry says when that was.
    """
    taken_over = _moment(state["lastUpdated"])
    ends = [taken_over]
    for item in unsettled:
        tool = _tool(definition, item["tool"])
        seconds = timedelta(seconds=tool.timeout_seconds + TIMEOUT_MARGIN)
        last_attempt = taken_over
        if tool.on_unknown != "retry":
            called = _moment(item["reservedAt"]) + RESERVATION
            last_attempt = min(taken_over, called + (CALL_ATTEMPTS - 1) * seconds + CALL_PAUSES)
        ends.append(last_attempt + seconds)
    # A part of a second counts as a whole one, so that the wait does not end before the call.
    return (max(ends) + timedelta(microseconds=999_999)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
