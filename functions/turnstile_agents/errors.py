"""The error names that the machines know.

Step Functions sees a Lambda's exception by its class name, so these names are an interface: `ErrorEquals` in `asl/`
holds them, and a test checks that each of them exists here.
"""


class ToolUnavailable(Exception):
    """The tool promises that nothing happened. Retried by the machine; then reported to the model."""


class ToolRejected(Exception):
    """The tool refuses this call and nothing happened. Never retried: the message is for the model."""


class ToolOutcomeUnknown(Exception):
    """The tool may have acted, and does not know. Never retried: the ledger entry becomes UNCERTAIN."""


class LeaseLost(Exception):
    """Another execution owns the agent now. Never retried: this turn has nothing left to do."""


class ContextTooLarge(Exception):
    """The conversation no longer fits the state payload. Never retried: an operator is asked if anything stands."""


class InvalidRecord(Exception):
    """The agent's record cannot be worked on; the message says why. Never retried: the agent ends FAILED."""


class TurnOutdated(Exception):
    """The stack was updated during the turn: a running execution keeps its definition, but not its functions.

    Never retried: a recovery starts another turn.
    """


class RecordTooNew(Exception):
    """A newer version wrote the record: the stack is being updated. Never retried: a recovery starts another turn."""


class EffectUncertain(Exception):
    """The outcome of a call that writes is unknown. Never retried: the turn stops until it is settled."""
