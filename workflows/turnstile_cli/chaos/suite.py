"""The whole harness in one run: the cases, the seats, and the comparison of the guards."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from turnstile_cli.chaos.bench import Guards, bench
from turnstile_cli.chaos.cases import Case, guard_cases
from turnstile_cli.chaos.report import ChaosReport, Doubles, doubles, make_report
from turnstile_cli.chaos.run import CaseOutcome, run
from turnstile_cli.files import TEMPLATE
from turnstile_cli.machines.limits import closest
from turnstile_cli.verify import verify

COMPARED = (Guards(), Guards(tool=False), Guards(ledger=False), Guards(ledger=False, tool=False))
"""Both guards, each guard alone, and no guard."""


def chaos(
    cases: Sequence[Case],
    folder: Path,
    seed: int,
    compare: bool,
    on_progress: Callable[[str], None],
    on_outcome: Callable[[CaseOutcome], None],
    template: Path = TEMPLATE,
) -> ChaosReport:
    """Run cases on their own engine, and report.

    Args:
        cases: the cases to run.
        folder: for the engines; it is deleted before the run, and after a run without problems.
        seed: the seed that the cases were chosen with, for the report.
        compare: whether to count bookings made twice with and without the guards, each on its own engine.
        on_progress: gets a few words for each part.
        on_outcome: gets the outcome of each case as soon as it is known.
        template: the template to deploy.

    Raise EngineError or StackError if an engine does not start, or if a play goes wrong without any fault.
    """
    begun = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    on_progress(f"{len(cases)} cases")
    with bench(folder / "cases", Guards(), template) as made:
        outcomes = run(made, cases, Guards(), on_outcome)
        inventory = [finding.text for finding in verify(made.stack).findings if not finding.agent_id]
        nearest = closest(made.stack.stepfunctions)
    compared = [_compare(guards, folder, on_progress, template) for guards in COMPARED] if compare else []
    report = make_report(seed, time.monotonic() - begun, outcomes, inventory, nearest, compared)
    if report.survived:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _compare(guards: Guards, folder: Path, on_progress: Callable[[str], None], template: Path) -> Doubles:
    on_progress(f"bookings made twice, guards: {guards}")
    with bench(folder / str(guards).replace(" ", "-"), guards, template) as made:
        return doubles(str(guards), run(made, guard_cases(), guards))
