"""The report on the cases: a table of states and faults, figures, and problems; as text, JSON and picture."""

import io
import statistics
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from turnstile_agents.record import Model
from turnstile_cli.chaos.cases import KINDS
from turnstile_cli.chaos.run import CaseOutcome
from turnstile_cli.machines.limits import SHARE, Use

SIMULATED = (
    "Waits and back-offs are skipped: the seconds show the work of a recovery, not the time that it would wait on AWS.",
    "killed: the engine saves its tables, streams and definitions and ends by SIGKILL while the agents of these cases "
    "are held at their states, many in one kill. Running executions are FAILED afterwards, and no event tells of it.",
    "taken_over: the test takes the lease from a turn that still runs, because no machine does that.",
    "malformed: where an SDK reads the answer, its SdkClientException after the call took effect; where the machine "
    "reads a path of it, States.Runtime, which AWS raises for a missing path and the engine does not.",
    "uncaught: the execution is made FAILED with States.Runtime right after the state.",
    "lost, late: the delivery from the rule to the machine, or from the stream to agent_publish, is left out or held "
    "back. The sender of a request or an input that had no result sends it again.",
    "forever in agent_start of a child, agent_input, agent_notify, agent_publish, agent_recovery, agent_redeliver or "
    "agent_watch lasts until a person repairs it: an alarm calls for that.",
    "Throttling and every other error of a service is raised in place of the service's answer, not by a service.",
)
"""The limits of the embedded engine: what the cases replace or simulate."""
_WIDTH = 140


class Spread(Model):
    """The spread of a figure over the cases."""

    median: float
    percentile95: float
    most: float


class Doubles(Model):
    """The number of bookings that were made twice, with a given set of guards."""

    guards: str
    lives: int
    lives_with_duplicates: int
    duplicates: int


class ChaosReport(Model):
    """The report on all cases."""

    seed: int
    cases: int
    survivors: int
    seconds: float
    recovery_seconds: Annotated[Spread | None, Field(description="From the fault to the last write of STATE")]
    extra_transitions: Annotated[Spread | None, Field(description="More than the same life has without faults")]
    duplicates: list[Doubles]
    inventory: Annotated[list[str], Field(description="Contradictions between flights, bookings and ledgers")]
    closest_to_limit: Annotated[str, Field(description="The use that came closest to a limit of Step Functions")]
    within_limits: Annotated[bool, Field(description="Whether that use is at most 80 % of the limit")]
    outcomes: list[CaseOutcome]
    simulated: tuple[str, ...] = SIMULATED

    @property
    def survived(self) -> bool:
        """Whether every agent survived, the inventory agrees, and no use is too close to a limit."""
        return self.survivors == self.cases and not self.inventory and self.within_limits


def make_report(
    seed: int,
    seconds: float,
    outcomes: Sequence[CaseOutcome],
    inventory: Sequence[str],
    closest: Use,
    duplicates: Sequence[Doubles],
) -> ChaosReport:
    """Count the outcomes and build the report."""
    return ChaosReport(
        seed=seed,
        cases=len(outcomes),
        survivors=sum(not outcome.problems for outcome in outcomes),
        seconds=round(seconds, 1),
        recovery_seconds=spread(
            outcome.recovery_seconds for outcome in outcomes if outcome.recovery_seconds is not None
        ),
        extra_transitions=spread(outcome.extra_transitions for outcome in outcomes),
        duplicates=list(duplicates),
        inventory=list(inventory),
        closest_to_limit=str(closest),
        within_limits=closest.share <= SHARE,
        outcomes=list(outcomes),
    )


def doubles(guards: str, outcomes: Sequence[CaseOutcome]) -> Doubles:
    """Count the bookings that were made twice."""
    return Doubles(
        guards=guards,
        lives=len(outcomes),
        lives_with_duplicates=sum(outcome.duplicates > 0 for outcome in outcomes),
        duplicates=sum(outcome.duplicates for outcome in outcomes),
    )


def spread(values: Iterable[float]) -> Spread | None:
    """Return median, 95th percentile and maximum; None if there are no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    place = min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))
    return Spread(
        median=round(statistics.median(ordered), 2), percentile95=round(ordered[place], 2), most=round(ordered[-1], 2)
    )


def write(report: ChaosReport, folder: Path) -> list[Path]:
    """Write report.txt, report.json and report.svg. Return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data, picture = (folder / f"report.{suffix}" for suffix in ("txt", "json", "svg"))
    data.write_text(report.model_dump_json(by_alias=True, indent=2) + "\n", "utf-8")
    console = Console(file=io.StringIO(), record=True, width=_WIDTH)
    console.print(page(report))
    text.write_text(console.export_text(clear=False), "utf-8")
    picture.write_text(console.export_svg(title="turnstile chaos"), "utf-8")
    return [text, data, picture]


def page(report: ChaosReport) -> RenderableType:
    """Lay out the report as a page for a terminal."""
    parts: list[RenderableType] = [
        _figures(report),
        _table(report.outcomes),
        _pairs(report.outcomes),
        *_wrong(report),
        Text("\nWhat the cases replace or simulate", style="bold"),
        *(Text(f"- {line}") for line in report.simulated),
    ]
    return Group(*parts)


def _figures(report: ChaosReport) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("cases", str(report.cases))
    table.add_row("survivors", Text(str(report.survivors), style="green" if report.survived else "red"))
    if report.recovery_seconds:
        table.add_row("seconds from the fault to rest", _spread(report.recovery_seconds))
    if report.extra_transitions:
        table.add_row("transitions that recovery costs", _spread(report.extra_transitions))
    for each in report.duplicates:
        what = f"{each.duplicates} in {each.lives} lives ({each.lives_with_duplicates} of them with some)"
        table.add_row(f"bookings made twice, guards: {each.guards}", what)
    table.add_row("seats and bookings", "agree" if not report.inventory else Text("do not agree", style="red"))
    table.add_row("closest to a limit", Text(report.closest_to_limit, style="" if report.within_limits else "red"))
    table.add_row("ran for", f"{report.seconds:.0f} s, seed {report.seed}")
    return table


def _spread(spread: Spread) -> str:
    return f"median {spread.median:g}, 95 % at most {spread.percentile95:g}, all at most {spread.most:g}"


def _table(outcomes: Sequence[CaseOutcome]) -> RenderableType:
    """Build the table of survivors: a row for each state and each event, a column for each fault."""
    single = [outcome for outcome in outcomes if len(outcome.kinds) == 1]
    if not single:
        return Text("")
    letters = dict(zip(KINDS, string.ascii_uppercase + string.ascii_lowercase, strict=False))
    table = Table(title="\nSurvivors of one fault each", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("state, or event for", no_wrap=True)
    for letter in letters.values():
        table.add_column(letter, justify="center")
    table.add_column("all", justify="right", no_wrap=True, min_width=7)
    for place in sorted({outcome.place for outcome in single}):
        here = [outcome for outcome in single if outcome.place == place]
        table.add_row(place, *(_cell([o for o in here if o.kinds[0] == kind]) for kind in KINDS), _cell(here, of=True))
    columns = (_cell([outcome for outcome in single if outcome.kinds[0] == kind]) for kind in KINDS)
    table.add_row("all", *columns, _cell(single, of=True))
    legend = Table.grid(padding=(0, 1))
    for kind, letter in letters.items():
        legend.add_row(letter, kind, KINDS[kind])
    return Group(table, Text(), legend)


def _cell(outcomes: Sequence[CaseOutcome], of: bool = False) -> Text:
    if not outcomes:
        return Text("·", style="dim")
    good = sum(not outcome.problems for outcome in outcomes)
    whole = good == len(outcomes)
    return Text(f"{good}/{len(outcomes)}" if of or not whole else str(good), style="green" if whole else "bold red")


def _pairs(outcomes: Sequence[CaseOutcome]) -> RenderableType:
    pairs = [outcome for outcome in outcomes if len(outcome.kinds) > 1]
    if not pairs:
        return Text("")
    good, both = sum(not outcome.problems for outcome in pairs), sum(all(outcome.met) for outcome in pairs)
    style = "green" if good == len(pairs) else "bold red"
    return Text(f"\nTwo faults in one life: {good}/{len(pairs)} survive; both faults were met in {both}", style=style)


def _wrong(report: ChaosReport) -> Iterable[RenderableType]:
    wrong = [outcome for outcome in report.outcomes if outcome.problems]
    if wrong or report.inventory:
        yield Text("\nWhat went wrong", style="bold red")
    for outcome in wrong:
        yield Text(f"{outcome.case}: {outcome.status} {outcome.error}", style="red")
        yield from (Text(f"    {problem}") for problem in outcome.problems)
    yield from (Text(problem) for problem in report.inventory)
