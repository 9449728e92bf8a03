"""Faults that agents survive: some cases of `turnstile chaos`, and a proof that the harness can fail."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from turnstile_cli.chaos.bench import Guards, bench
from turnstile_cli.chaos.cases import (
    KINDS,
    Case,
    Injection,
    Place,
    UnknownCase,
    all_cases,
    case_of,
    guard_cases,
    representative_cases,
)
from turnstile_cli.chaos.report import ChaosReport, doubles, make_report, write
from turnstile_cli.chaos.run import CaseOutcome, run
from turnstile_cli.chaos.suite import chaos
from turnstile_cli.files import TEMPLATE
from turnstile_cli.machines.definition import load_machines
from turnstile_cli.machines.limits import Use

pytestmark = pytest.mark.xdist_group("faults")


class TestCases:
    def test_every_state_of_every_machine_meets_every_fault(self) -> None:
        single = {(str(case.faults[0].place), case.faults[0].kind) for case in all_cases() if len(case.faults) == 1}
        tasks = [(m.name, state) for m in load_machines(TEMPLATE.parent / "asl") for state in m.tasks()]
        assert tasks
        for kind in KINDS:
            if kind in ("throttled", "timeout_after", "malformed", "uncaught", "aborted", "killed_before"):
                met_by = {f"{m}.{s.name}" for m, s in tasks if kind != "malformed" or not s.waits_for_token}
                assert {place for place, met in single if met == kind} == met_by

    def test_there_are_at_least_300_and_they_can_be_run_alone(self) -> None:
        cases = all_cases()
        assert len({case.id for case in cases}) == len(cases) >= 300
        assert [case_of(case.id) for case in cases[::50]] == cases[::50]
        assert all_cases() == cases != all_cases(seed=2)
        with pytest.raises(UnknownCase, match=r"There is no case none; `turnstile chaos --list` shows"):
            case_of("none")

    def test_the_representative_cases_have_every_kind_and_every_state(self) -> None:
        every, some = (
            [case for case in cases() if len(case.faults) == 1] for cases in (all_cases, representative_cases)
        )
        assert marks(some) == marks(every)
        assert len(some) < len(every) / 5


def marks(cases: Sequence[Case]) -> set[str]:
    return {mark for case in cases for mark in (str(case.faults[0].place), case.faults[0].kind)}


def test_agents_survive(tmp_path: Path) -> None:
    told: list[CaseOutcome] = []
    report = chaos(representative_cases(), tmp_path / "engines", 1, False, lambda _: None, told.append)
    assert [f"{outcome.case}: {outcome.problems}" for outcome in report.outcomes if outcome.problems] == []
    assert report.inventory == []
    assert report.within_limits, report.closest_to_limit
    assert {outcome.case for outcome in told} == {case.id for case in representative_cases()}
    assert report.survived
    text, data, picture = write(report, tmp_path / "report")
    assert "seats and bookings" in text.read_text("utf-8")
    assert ChaosReport.model_validate_json(data.read_text("utf-8")) == report
    assert picture.read_text("utf-8").startswith("<svg")


@pytest.mark.parametrize(("amount", "survived"), [(80, True), (81, False)])
def test_a_run_close_to_a_limit_of_step_functions_does_not_survive(amount: int, survived: bool) -> None:
    report = make_report(1, 1.0, [], [], Use("turn-1, LoadTurn", "bytes", amount, 100), [])
    assert report.survived is survived
    assert report.closest_to_limit == f"turn-1, LoadTurn: bytes {amount} of 100 ({amount}%)"


def test_the_harness_can_fail(tmp_path: Path) -> None:
    """Check that without ledger and tool guard each repeated call books again, and that the harness reports it."""
    never = Case(guard_cases()[0].way, (Injection(Place("agent_turn", "AskModel", visit=99), "throttled"),))
    guards = Guards(ledger=False, tool=False)
    with bench(tmp_path, guards) as made:
        *outcomes, unmet = run(made, [*set(guard_cases()), never], guards, lambda _: None)
    assert [(outcome.case, outcome.duplicates) for outcome in outcomes if not outcome.duplicates] == []
    assert all("bookings too many" in outcome.problems[0] for outcome in outcomes)
    assert unmet.problems[0] == "the fault was never met"
    report = make_report(1, 1.0, [*outcomes, unmet], [], Use("", "", 0, 1), [doubles(str(guards), outcomes)])
    assert not report.survived
    assert report.duplicates[0].lives_with_duplicates == len(outcomes)
