"""An executable model of the protocol, explored exhaustively: docs/protocol.md.

The real parts: every state, Choice rule, path and expression of the machines in `asl/`, the rules of `template.yaml`
that start them, and the functions LoadTurn, ReadReply, LoadRecovery and LoadWatch. MiniStack's code evaluates paths,
rules and event patterns; moto's code evaluates ConditionExpressions and UpdateExpressions.

The abstract parts, written by hand:

- The environment: `steps.py`. It chooses which request is carried out next, which event is delivered, lost or doubled,
  which execution is stopped, which answer is lost; and each act of a model, a tool, a user and an operator.
- Time. Every timestamp is the same. A record may be stale at any moment, and a retry or a pause takes no time. One
  wait guards correctness: the wait for calls that may still run. It is over exactly when no such call runs;
  tests/unit/test_load_recovery.py checks how the real wait is computed.
- Retries. A Task that fails has failed after its last retry. A refused condition is not tried again: a later attempt is
  the same as a first attempt that comes later.
- Values that only people read: error messages, an entry's author, counts. They are dropped from the items, so that
  histories which differ only in such values are one history.
- agent_publish is a part of every write of STATE: an event is lost or late only on the bus.
- A stopped watch, redrives, agent_notify, delegation, and reads of several pages are not modelled.
"""
