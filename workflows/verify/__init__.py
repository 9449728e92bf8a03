"""Whether a stack's tables agree with themselves: what `turnstile verify` finds, from stored items alone.

What is checked is what the machines promise: the journal has no gap, STATE is its fold and the inbox's, every effect
belongs to a decision, and to an approval where one is needed, and every result to an effect; parents and children know
of each other; and the seat inventory holds what the ledger says was booked.
"""

import time

from workflows.client import Stack
from workflows.verify.agent import findings
from workflows.verify.family import family_findings
from workflows.verify.inventory import booking_findings, inventory_findings
from workflows.verify.kinds import Finding, Kind, Verdict
from workflows.verify.tables import look

__all__ = [
    "Finding",
    "Kind",
    "Verdict",
    "booking_findings",
    "family_findings",
    "findings",
    "inventory_findings",
    "verify",
]

PAUSE = 1.0
"""Seconds between the look that finds something and the one that confirms it."""


def verify(stack: Stack, agent_id: str | None = None) -> Verdict:
    """Looks at all agents and the seat inventory, or at one agent and its bookings.

    A look reads one item after the other while agents work. So what it finds is told only if a second look, `PAUSE`
    seconds later, finds it at the same place. Raises UnknownAgent.
    """
    first = look(stack, agent_id)
    if not first.findings:
        return first
    time.sleep(PAUSE)
    found = {(finding.agent_id, finding.kind, finding.record) for finding in first.findings}
    second = look(stack, agent_id)
    confirmed = [each for each in second.findings if (each.agent_id, each.kind, each.record) in found]
    return Verdict(agents=second.agents, findings=confirmed)
