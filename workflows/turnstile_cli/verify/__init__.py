"""The checks of `turnstile verify`: whether a stack's tables agree with themselves, from stored items alone.

They check what the machines promise: the journal has no gap; STATE is the fold of the journal and the inbox; every
effect belongs to a decision, and to an approval if it needs one; every result belongs to an effect; parents and
children name each other; the seat inventory agrees with the ledger's bookings.
"""

import time

from turnstile_cli.stack.client import Stack
from turnstile_cli.verify.agent import findings
from turnstile_cli.verify.family import family_findings
from turnstile_cli.verify.kinds import Finding, Kind, VerifyReport
from turnstile_cli.verify.tables import look

__all__ = [
    "Finding",
    "Kind",
    "VerifyReport",
    "family_findings",
    "findings",
    "verify",
]

PAUSE = 1.0
"""Seconds between the look that finds an inconsistency and the look that confirms it."""


def verify(stack: Stack, agent_id: str | None = None) -> VerifyReport:
    """Check all agents and the seat inventory, or one agent and its bookings.

    A look reads one item after the other while agents work. So a finding is reported only if a second look, `PAUSE`
    seconds later, finds it at the same place. Raise UnknownAgent if there is no such agent.
    """
    first = look(stack, agent_id)
    if not first.findings:
        return first
    time.sleep(PAUSE)
    found = {(finding.agent_id, finding.kind, finding.record) for finding in first.findings}
    second = look(stack, agent_id)
    confirmed = [each for each in second.findings if (each.agent_id, each.kind, each.record) in found]
    return VerifyReport(agents=second.agents, findings=confirmed)
