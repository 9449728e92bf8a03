"""The model's result for each mutation (mutations.py): the scenario that catches it, or the reason why none does."""

UNFINISHED = "NOT #status IN (:completed, :failed, :cancelled)"
OPEN = "#status IN (:reserved, :uncertain)"
OURS = "#owner IN (:holder, :me)"
LISTENS = (
    "NOT #status IN (:waitingForInput, :waitingForApproval, :waitingForAgent, :waitingForOperator, :completed, "
    ":failed, :cancelled)"
)

CAUGHT = {
    "the operator decides": {
        f"ClaimTurn: #owner = :none AND #step = :step AND nextAction = :nextAction AND {UNFINISHED}",
        f"TakeOver: #owner = :dead AND #step = :step AND lastUpdatedBy = :last AND {UNFINISHED}",
    },
    "a call that the operator settles": {
        "CheckpointDecision: #owner = :me",
        "CheckpointDecision: #owner = :me AND #step = :previousStep",
        "CheckpointResults: #owner = :me",
        "CheckpointResults: #owner = :me AND #step = :previousStep",
        "CloseTurn: #owner = :me",
        "CloseTurn: #owner = :me AND #step = :step AND inbox = :inbox",
        "RecordFailure: #owner = :me",
        "RecordFailure: #owner = :me AND inbox <= :inbox",
        "ReserveEffect: attribute_not_exists(agentId)",
        "ReserveEffect: #owner = :me",
        "ReserveEffect: #owner = :me AND cancels = :zero",
    },
    "a question to the user": {
        "CloseTurn: inbox = :inbox",
        f"StoreInput: #status = :found OR {LISTENS}",
    },
    "two decisions": {f"WakeAgent: #owner = :none AND #status = :found AND waitsFor = :waitsFor AND {UNFINISHED}"},
    "a cancellation": {"ReserveEffect: cancels = :zero"},
    "a cancellation while the operator is asked": {
        "MarkWaiting: cancels = :zero",
        "MarkWaiting: #owner = :me AND #step = :step AND cancels = :zero",
    },
    "an effect that is undone": {
        "CommitEffect: #owner = :me AND #status IN (:reserved, :uncertain, :committed)",
        f"ClaimEffect: {OPEN}",
        f"ClaimEffect: {OURS} AND {OPEN}",
        "ReserveUndo: #owner = :me",
    },
}
"""The mutations that break a sentence, by scenario."""

CAUGHT_DEEPER = {
    "a call that the operator settles": {
        "RecordRecovery: #owner = :me",
        "RecordRecovery: #owner = :me AND #step = :previousStep AND inbox <= :inbox",
    },
    "a call that is made again": {
        "FailEffect: #owner = :me",
        "FailEffect: #owner = :me AND #status IN (:reserved, :uncertain, :failed)",
    },
    "an effect that is undone": {
        f"SettleCommitted: {OPEN}",
        f"SettleCommitted: {OURS} AND {OPEN}",
        f"LeaveUncertain: {OPEN}",
        "FailUndo: #owner = :me",
        f"FailUndo: #owner = :me AND {OPEN}",
        f"DoubtUndo: #owner = :me AND {OPEN}",
        f"DoubtEffect: #owner = :me AND {OPEN}",
    },
}
"""The mutations that break a sentence only with one fault more, by scenario."""

_LATE_TRUTH = "A late result is true. Two owners know the same, unless the call was made again in between."
_TURN_IS_DUE = (
    "The record asks for a turn, and LoadTurn reads the record: an older event begins the same turn as a newer one."
)
_SAME_AGENT = (
    "`lastUpdatedBy` covers the rest: each write that moves an agent changes it, unless one execution writes twice."
)
_SAID_AGAIN = "An outdated announcement is refused by its receiver: ClaimTurn or TakeOver."

HARMLESS = {
    "ClaimTurn: #step = :step": _TURN_IS_DUE,
    "ClaimTurn: nextAction = :nextAction": _TURN_IS_DUE,
    "RecordFailure: inbox <= :inbox": "The recovery of the failure reads the inbox itself, and finds the new input.",
    "CommitEffect: #owner = :me": _LATE_TRUTH,
    "CommitUndo: #owner = :me": _LATE_TRUTH,
    f"CommitUndo: #owner = :me AND {OPEN}": _LATE_TRUTH,
    "WakeAgent: #status = :found": "`waitsFor` names the awaited answer, so another wait has another value.",
    "TakeOver: #owner = :dead": _SAME_AGENT,
    "TakeOver: #step = :step": _SAME_AGENT,
    "AnnounceTurn: nextAction = :nextAction": _SAID_AGAIN,
    "AnnounceTurn: #owner = :none AND #step = :step AND nextAction = :nextAction": _SAID_AGAIN,
    "AnnounceError: #owner = :none": _SAID_AGAIN,
    "AnnounceError: #owner = :none AND #step = :step AND nextAction = :none AND #status = :status": _SAID_AGAIN,
}
"""The mutations that carry out a refused write without breaking a sentence, with the reason."""

REDUNDANT = {
    "CreateAgent: attribute_not_exists(agentId)",
    "ClaimTurn: #owner = :none",
    f"ClaimTurn: {UNFINISHED}",
    "CheckpointDecision: #step = :previousStep",
    "CheckpointResults: #step = :previousStep",
    "CloseTurn: #step = :step",
    "CommitEffect: #status IN (:reserved, :uncertain, :committed)",
    "WakeAgent: #owner = :none",
    "WakeAgent: waitsFor = :waitsFor",
    f"WakeAgent: {UNFINISHED}",
    "StoreInput: #status = :found",
    f"StoreInput: {LISTENS}",
    "TakeOver: lastUpdatedBy = :last",
    f"TakeOver: {UNFINISHED}",
    "MarkWaiting: #owner = :me",
    "MarkWaiting: #step = :step",
    f"ClaimEffect: {OURS}",
    f"SettleCommitted: {OURS}",
    "ReserveUndo: attribute_not_exists(agentId)",
    "ReserveUndo: #status = :committed",
    f"CommitUndo: {OPEN}",
    "CommitUndo: #status = :compensating",
    "AnnounceTurn: #owner = :none",
    "AnnounceTurn: #step = :step",
    "AnnounceError: #step = :step",
    "AnnounceError: nextAction = :none",
    "AnnounceError: #status = :status",
}
"""The mutations without effect: another term, or another part of the same transaction, refuses the same write in
every scenario. The term covers cases outside the model, or a state of the record that another guard makes
impossible."""

UNREFUSED = {
    "An answer that is too large is not modelled.": {"CommitNote"},
    "An approval is announced again when half of its time is over, and the model has no time.": {"RemindApprover"},
    "Delegation is not modelled.": {"WakeParent"},
    "The write that ends the agent announces the end, and only notifications follow it.": {"AnnounceEnd"},
    "It refuses a write only after two faults; CAUGHT_DEEPER has the results for that case.": {
        "AskOperator",
        "DoubtEffect",
        "DoubtUndo",
        "FailEffect",
        "FailUndo",
        "RecordRecovery",
        "SettleFailed",
        "SettleNotUndone",
        "SettleUndone",
    },
}
"""The conditions that refuse nothing, by reason: every mutation of these states."""
