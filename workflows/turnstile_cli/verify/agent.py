"""The checks of one agent: whether its items agree with each other."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from turnstile_agents.errors import RecordTooNew
from turnstile_agents.items import AgentState, AnyItem, Attributes, ModelStep, record_of
from turnstile_agents.journal import read_journal
from turnstile_agents.record import step_record
from turnstile_cli.verify.conversation import check_conversation
from turnstile_cli.verify.end import check_end
from turnstile_cli.verify.inbox import check_inbox
from turnstile_cli.verify.kinds import Finding, Found, Kind
from turnstile_cli.verify.ledger import check_ledger
from turnstile_cli.verify.state import check_lease, check_state
from turnstile_cli.verify.stored import StoredAgent, read_checked, why

_NOTHING_OVER: Mapping[str, str] = MappingProxyType({})


def findings(items: Iterable[Attributes], over: Mapping[str, str] = _NOTHING_OVER) -> list[Finding]:
    """Find the inconsistencies among all items of one agent, which are given as text: one may be broken. Pure.

    `over`: executions that have ended, by ARN, with their status; their leases and reservations are dead.
    """
    ordered = sorted(items, key=lambda item: item["record"])
    return [Finding.of(ordered[0]["agentId"], *found) for found in _check(ordered, over)] if ordered else []


def _check(items: list[Attributes], over: Mapping[str, str]) -> Iterator[Found]:
    read: dict[str, AnyItem] = {}
    for item in items:
        try:
            read[item["record"]] = read_checked(item)
        except (KeyError, TypeError, ValueError, RecordTooNew) as error:
            yield Kind.RECORD_UNREADABLE, item["record"], f"It cannot be read: {why(error)}"
    if all(item["record"] != "STATE" for item in items):
        yield Kind.RECORD_UNREADABLE, "STATE", f"It is missing, but there are {len(items)} other items"
    state = read.get("STATE")
    if not isinstance(state, AgentState):
        return
    yield from check_lease(state, over)
    # A gap or an unreadable item would cause further findings; they are not reported.
    gaps = list(_gaps(state, {item["record"] for item in items if item["record"].startswith("STEP#")}))
    yield from gaps
    if gaps or len(read) < len(items):
        return
    record = record_of(read.values())
    agent = StoredAgent(
        state=state,
        record=record,
        entries=read_journal(record),
        inputs={each.record: each for each in record.inputs},
        effects=record.ledger,
        folded=[name for step in record.steps if isinstance(step, ModelStep) for name in step.inputs],
    )
    yield from check_state(agent)
    yield from check_end(agent)
    yield from check_inbox(agent)
    yield from check_conversation(agent)
    yield from check_ledger(agent, over)


def _gaps(state: AgentState, steps: set[str]) -> Iterator[Found]:
    expected = {step_record(number) for number in range(1, state.step + 1)}
    for record in sorted(expected - steps):
        yield Kind.JOURNAL_GAP, record, f"It is missing, but the journal goes to step {state.step}"
    for record in sorted(steps - expected):
        yield Kind.JOURNAL_GAP, record, f"It exists, but STATE ends the journal at step {state.step}"
