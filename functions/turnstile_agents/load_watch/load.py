"""Finds the agents whose record has not changed for too long, or that wait in vain."""

import math
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

from pydantic import Field

from turnstile_agents.conversation import reason
from turnstile_agents.errors import RecordTooNew
from turnstile_agents.items import AgentState, ModelStep
from turnstile_agents.log import logger
from turnstile_agents.record import FINISHED, SETTLED, Model, Status
from turnstile_agents.table import INDEX, AgentTable

WORKING = frozenset(Status) - SETTLED - {Status.WAITING_FOR_AGENT}
"""In one of these a turn or a recovery must be at work."""
WATCHED = WORKING | {Status.WAITING_FOR_OPERATOR}
"""In one of these an execution must be at work: also the recovery that asks the operator."""
LIMIT = 50
"""Most agents that one run helps."""
RUNS = "WATCH#"
"""The partition that counts the runs; `#` cannot occur in an agent's id."""
KINDS = 4
"""Kinds of candidates. Each has its own share of LIMIT, so that no kind keeps another waiting."""
LOOKS = 100
"""Candidates of one kind that one run reads: with the children of parents, LoadWatch has time for no more."""
MESSAGE_LIMIT = 1000
"""Characters of an error's message: with LIMIT, it keeps the answer within a state's payload of 256 KiB."""


REMINDING_RUNS = 2
"""Runs in which an approver may be reminded when half of the time is over: one may fail, or come late."""


class Patience(NamedTuple):
    """The times after which an agent needs help."""

    stale: timedelta
    """Without a change of a record that an execution must work on."""
    approval: timedelta
    """Without a decision about an approval."""
    watch: timedelta
    """Between two runs."""


class Stale(Model):
    """An agent whose record has not changed for too long."""

    agent_id: str
    step: Annotated[int, Field(description="The newest entry of the journal")]
    status: Status
    next_action: Annotated[str, Field(description="The turn that was announced, or NONE")]
    owner: Annotated[str, Field(description="The execution that holds the lease, or NONE")]
    waits_for: Annotated[str, Field(description="The approval or the delegation that it waits for, if it waits")]
    reminded: Annotated[
        bool, Field(description="While it waits for an approval: whether the approvers were reminded of it")
    ]
    parent: Annotated[str, Field(description="The agent that delegated to it; empty without a parent")]
    error: Annotated[str, Field(description="The error that a recovery handles; empty while a turn works")]
    error_message: str


class Watch(Model):
    """The output of LoadWatch."""

    agents: list[Stale]
    left_out: Annotated[int, Field(ge=0, description="Candidates that this run did not reach; the next runs do")]
    rotation_minutes: Annotated[
        int, Field(ge=0, description="Minutes in which runs of this pace reach every candidate")
    ]


class _Queue:
    """Candidates of one kind, in the order in which this run reads them: each run begins further on."""

    def __init__(
        self, candidates: Iterable[str], at_least: int, run: int, look: Callable[[str], list[AgentState]]
    ) -> None:
        """Order the candidates.

        Args:
            candidates: the agents' ids.
            at_least: how many of them every run reads, if there are as many.
            run: the number of this run.
            look: returns the agents to help for a candidate: itself, its children, or no agent.
        """
        ordered = sorted(set(candidates))
        start = run * at_least % len(ordered) if ordered else 0
        self._waiting = [*ordered[start:], *ordered[:start]]
        self._look = look
        self._found: list[AgentState] = []
        self.looked_at = 0

    def take(self, places: int) -> list[AgentState]:
        """Return the next agents that need help, at most as many as there are places."""
        while len(self._found) < places and self._waiting and self.looked_at < LOOKS:
            agent_id = self._waiting.pop(0)
            self.looked_at += 1
            try:
                self._found += self._look(agent_id)
            except (ValueError, RecordTooNew):
                # A broken record must not keep the others from help.
                logger.warning("Its record, or a child's, cannot be read", agentId=agent_id, exc_info=True)
        taken, self._found = self._found[:places], self._found[places:]
        return taken

    @property
    def left_out(self) -> int:
        """The number of candidates that were not read, and of agents that were found and not taken."""
        return len(self._waiting) + len(self._found)

    @property
    def runs(self) -> int:
        """The number of runs of this pace that read every candidate."""
        return math.ceil((self.looked_at + len(self._waiting)) / max(1, self.looked_at))


def count_run(table: AgentTable) -> int:
    """Count this run, and return its number."""
    answer = table.client.update_item(
        TableName=table.name,
        Key={"agentId": {"S": RUNS}, "record": {"S": "RUNS"}},
        UpdateExpression="ADD runs :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
        ReturnValues="UPDATED_NEW",
    )
    return int(answer["Attributes"]["runs"]["N"])


def find_stale(table: AgentTable, now: datetime, patience: Patience, run: int) -> Watch:
    """Find the agents that need help, at most LIMIT of them.

    - Agents in a watched status whose record has not changed for too long.
    - Of parents that have waited as long: each child whose end the parent has not heard of, or the parent itself if it
      waits for a child that does not exist.
    - Agents whose approval was requested too long ago, or half as long ago if the approvers were not reminded.

    There may be more than LIMIT. Each kind has a share of the places. Free places go to the kinds in their order, with
    agents that wait for an operator last: most of these wait for a good reason. Each run begins with later candidates
    than the run before, so that every candidate has its turn: `run` is the number of this run.
    """
    limit, decision_limit = _text(now - patience.stale), _text(now - patience.approval)
    share = max(1, LIMIT // KINDS)

    def still(agent_id: str) -> list[AgentState]:
        state = table.state(agent_id)
        # The index may be out of date for a moment, so the item itself decides.
        return [state] if state and state.status in WATCHED and state.last_updated < limit else []

    def undecided(agent_id: str) -> list[AgentState]:
        state = table.state(agent_id)
        if state is None or state.status is not Status.WAITING_FOR_APPROVAL:
            return []
        return [state] if state.last_updated < decision_limit or not _reminded(state) else []

    def waiting(agent_id: str) -> list[AgentState]:
        parent = table.state(agent_id)
        return _waits_in_vain(table, parent) if parent else []

    def candidates(status: Status, before: str, since: str = "0") -> list[str]:
        return table.ids_in_status(status, since, before)

    working = [each for status in sorted(WORKING) for each in candidates(status, limit)]
    half = now - patience.approval / 2
    # An approval that has expired is found anyway, and its approvers are reminded before that counts.
    since = max(half - REMINDING_RUNS * patience.watch, now - patience.approval)
    approvals = candidates(Status.WAITING_FOR_APPROVAL, decision_limit)
    approvals += candidates(Status.WAITING_FOR_APPROVAL, _text(half), _text(since))
    queues = [
        _Queue(working, share, run, still),
        _Queue(approvals, share, run, undecided),
        _Queue(candidates(Status.WAITING_FOR_AGENT, limit), LOOKS, run, waiting),
        _Queue(candidates(Status.WAITING_FOR_OPERATOR, limit), share, run, still),
    ]
    stale: list[AgentState] = []
    for places in (share, LIMIT):
        for queue in queues:
            stale += queue.take(min(places, LIMIT - len(stale)))
    return Watch(
        agents=[_stale(state) for state in stale],
        left_out=sum(queue.left_out for queue in queues),
        rotation_minutes=int(max(queue.runs for queue in queues) * patience.watch.total_seconds() // 60),
    )


def _waits_in_vain(table: AgentTable, parent: AgentState) -> list[AgentState]:
    """Find the children whose end a waiting parent has not heard of, and the parent if one of them does not exist."""
    if parent.status is not Status.WAITING_FOR_AGENT or not parent.waits_for.isdecimal():
        return []
    # Not the children of an earlier delegation: the parent does not wait for them, and some may never have started.
    delegation = table.step(parent.agent_id, int(parent.waits_for))
    children = delegation.read_decision().children if isinstance(delegation, ModelStep) else []
    stale: list[AgentState] = []
    for child_id in [child.agent_id for child in children]:
        child = table.state(child_id)
        # An agent of that id with another parent is not this parent's child: its events do not reach this parent.
        if child is None or child.parent != parent.agent_id:
            stale += [parent] if parent not in stale else []
        elif child.status in FINISHED and not table.input(parent.agent_id, child_id):
            stale.append(child)
    return stale


def _reminded(state: AgentState) -> bool:
    return state.reminded_of == state.waits_for


def count_waiting(table: AgentTable) -> int:
    """Count the agents that wait for an operator."""
    pages = table.client.get_paginator("query").paginate(
        TableName=table.name,
        IndexName=INDEX,
        KeyConditionExpression="#status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": Status.WAITING_FOR_OPERATOR}},
        Select="COUNT",
    )
    return sum(page["Count"] for page in pages)


def count_not_begun(watch: Watch) -> int:
    """Count the found agents whose turn or recovery was announced and has not begun: no execution holds the lease."""
    return sum(agent.status in WORKING and agent.owner == "NONE" for agent in watch.agents)


def _stale(state: AgentState) -> Stale:
    return Stale(
        agent_id=state.agent_id,
        step=state.step,
        status=state.status,
        next_action=state.next_action,
        owner=state.execution,
        waits_for=state.waits_for,
        reminded=_reminded(state),
        parent=state.parent,
        error=state.error,
        error_message=reason(state.error_message)[:MESSAGE_LIMIT],
    )


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
