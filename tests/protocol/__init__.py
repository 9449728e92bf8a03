"""An executable model of the protocol, explored exhaustively: docs/protocol.md.

What is real: every state, Choice rule, path and expression of the machines in `asl/`, the rules of `template.yaml` that
start them, and the functions LoadTurn, ReadReply, LoadRecovery and LoadWatch. Paths, rules and event patterns are
evaluated by MiniStack's code, ConditionExpressions and UpdateExpressions by moto's.

What is abstract, and written by hand:

- The environment: `steps.py`. Which request is carried out next, which event is delivered, lost or doubled, which
  execution is stopped, which answer is lost; what a model replies, a tool does, a user says and an operator decides.
- Time. Every timestamp is the same. A record may be stale at any moment, and a retry or a pause takes no time. The one
  wait that guards correctness, for calls that may still run, is over exactly when none of them runs: whether its
  arithmetic says so is for tests/unit/test_load_recovery.py.
- Retries. A Task that fails has failed after its last retry. A refused condition is not tried again: a later attempt is
  the same as a first attempt that comes later.
- What only people read: error messages, who wrote an entry, counts. It is dropped from the items, so that histories
  that differ in nothing else are one.
- agent_publish is a part of every write of STATE: an event that is lost or late is lost or late on the bus.
- A stopped watch, redrives, agent_notify, delegation, and reads of several pages are not modelled.
"""
