"""Settle the ledger of a finished agent: write whether a call took effect, as an operator found out."""

import datetime as dt
import json
from typing import Annotated, Any

from pydantic import Field

from turnstile_agents.border import DEPTH, RESULT_LIMIT, clean, nests_deeper
from turnstile_agents.conversation import reason
from turnstile_agents.items import Effect
from turnstile_agents.operator import RESULT_UNKNOWN, describe
from turnstile_agents.record import FINISHED, EffectStatus, Model, undo_attempts, undoes
from turnstile_cli.stack.client import Stack, StackError


class Settled(Model):
    """The settled entry of the ledger."""

    agent_id: str
    key: str
    tool: str
    status: EffectStatus
    effect: Annotated[str, Field(description="The `record` of the effect that this call undoes; empty if none")]
    effect_status: Annotated[EffectStatus | None, Field(description="The status of that effect, settled with the call")]


def settle(stack: Stack, agent_id: str, key: str, happened: bool, result: str = "") -> Settled:
    """Settle one unsettled ledger entry of a finished agent. Nothing else of the agent changes.

    Args:
        stack: the agent's stack.
        agent_id: the agent's id.
        key: the entry's `record`, such as EFFECT#000002#0. With an undo, the effect that it undoes is settled too.
        happened: whether the call took effect.
        result: the call's result, as JSON; empty if it is not known. Only for a call that took effect.

    Raise UnknownAgent; StackError with the reason if the entry may not be settled this way.
    """
    value = _read_result(happened, result)
    entry = _entry(stack, agent_id, key)
    writes = _writes(stack, entry, happened, value)
    try:
        stack.dynamodb.transact_write_items(TransactItems=writes)
    except stack.dynamodb.exceptions.TransactionCanceledException as error:
        _entry(stack, agent_id, key)  # raises StackError if another answer came first
        raise StackError(f"The table refused to settle {key} of agent {agent_id}; try again in a moment") from error
    effect = undoes(key)
    return Settled(
        agent_id=agent_id,
        key=key,
        tool=entry.tool,
        status=EffectStatus.COMMITTED if happened else EffectStatus.FAILED,
        effect=effect,
        effect_status=_of_undone(happened) if effect else None,
    )


def _read_result(happened: bool, result: str) -> str:
    if result and not happened:
        raise StackError("A call that did not take effect has no result; leave RESULT out, or use --happened")
    try:
        value = json.loads(result) if result else RESULT_UNKNOWN
    except (ValueError, RecursionError) as error:
        raise StackError(f"RESULT is no JSON: {error}") from error
    if nests_deeper(value):
        raise StackError(f"RESULT nests deeper than {DEPTH} levels; give the part that the model or its caller needs")
    text = json.dumps(clean(value), ensure_ascii=False)
    if len(text.encode()) > RESULT_LIMIT:
        raise StackError(f"RESULT has {len(text.encode())} bytes; give at most {RESULT_LIMIT}")
    return text


def _entry(stack: Stack, agent_id: str, key: str) -> Effect:
    """Find the entry to settle. Raise StackError if it may not be settled."""
    state, record = stack.read_agent(agent_id)
    if state.status not in FINISHED:
        raise StackError(
            f"Agent {agent_id} is {state.status} and not finished: its recovery settles the ledger. If it waits for "
            f"its operator, answer with `turnstile decide {agent_id}`"
        )
    entry = record.ledger.get(key)
    if entry is None:
        listed = "; ".join(map(describe, record.unsettled))
        known = f"Not settled: {listed}" if listed else "Every entry is settled"
        raise StackError(f"Agent {agent_id} has no entry {key} in its ledger. {known}")
    if entry.status is EffectStatus.COMPENSATING:
        last = undo_attempts(record.ledger).get(key, [])[-1:]
        raise StackError(f"{key} took effect, and its undo is open: settle {last[0].record if last else 'that'}")
    if not entry.unsettled:
        why = f": {entry.error}: {reason(entry.error_message)}" if entry.status is EffectStatus.FAILED else ""
        raise StackError(f"{key} ({entry.tool}) is settled already: it is {entry.status}{why}")
    return entry


def _of_undone(happened: bool) -> EffectStatus:
    """Return the status of an effect after its undo happened or did not happen."""
    return EffectStatus.COMPENSATED if happened else EffectStatus.COMMITTED


def _writes(stack: Stack, entry: Effect, happened: bool, result: str) -> list[Any]:
    """Build one transaction. It needs a finished agent, an unsettled entry and, for an undo, a COMPENSATING effect."""
    table, agent_id = stack.outputs.table_name, entry.agent_id

    def on(record: str, condition: str, values: dict[str, str]) -> dict[str, Any]:
        return {
            "TableName": table,
            "Key": {"agentId": {"S": agent_id}, "record": {"S": record}},
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {f":{name}": {"S": value} for name, value in values.items()},
        }

    ends = {status.lower(): status.value for status in sorted(FINISHED)}
    said = "took effect" if happened else "did not take effect"
    values = {
        "reserved": "RESERVED",
        "uncertain": "UNCERTAIN",
        "status": "COMMITTED" if happened else "FAILED",
        "result": result if happened else "",
        "error": "" if happened else "NothingHappened",
        "message": f"An operator says that the call {said}{f', by {stack.by} (claimed)' if stack.by else ''}.",
        "now": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    writes = [
        {"ConditionCheck": on("STATE", f"#status IN ({', '.join(f':{name}' for name in ends)})", ends)},
        {
            "Update": {
                **on(entry.record, "#status IN (:reserved, :uncertain)", values),
                "UpdateExpression": "SET #status = :status, #result = :result, #error = :error, "
                "errorMessage = :message, settledAt = :now",
                "ExpressionAttributeNames": {"#status": "status", "#result": "result", "#error": "error"},
            }
        },
    ]
    if effect := entry.undoes:
        undone = on(effect, "#status = :compensating", {"compensating": "COMPENSATING", "to": _of_undone(happened)})
        writes.append({"Update": {**undone, "UpdateExpression": "SET #status = :to"}})
    return writes
