"""Keep agents of this version: play each to a point, stop it there, and write its items into a file.

    .venv/bin/python -m tests.kept VERSION

Run it before a release changes a record or a machine: CONTRIBUTING.md says when. VERSION is the version of the record
that this code writes; its folder must not exist yet, because kept files never change.
"""

import argparse
import datetime as dt
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.kept.files import AGENTS, HERE, is_state, scenario, version_of, write, write_definitions
from tests.kept.situations import SITUATIONS
from tests.kept.stage import register_agents
from tests.world import World
from turnstile_cli.engines.faults import FOLDER, Faults
from turnstile_cli.local.stack import local_stack

APART = 3
"""Days between the flights of two situations."""


def main() -> None:
    """Write the files of a version."""
    arguments = argparse.ArgumentParser(prog="python -m tests.kept", description=__doc__)
    arguments.add_argument("version", type=int, help="the version of the record that this code writes")
    arguments.add_argument("--into", type=Path, help="another folder, to look at what would be written")
    arguments.add_argument("situation", nargs="*", help="only situations with this in their name")
    given = arguments.parse_args()
    folder: Path = given.into or HERE / str(given.version)
    if folder == HERE / str(given.version) and folder.exists():
        sys.exit(f"{folder} exists already: kept files never change")
    chosen = [each for each in SITUATIONS if not given.situation or any(part in each.name for part in given.situation)]
    days = {each.name: first_day(given.version) + dt.timedelta(days=APART * n) for n, each in enumerate(SITUATIONS)}
    scenarios = [scenario(each.name, each.script(given.version, days[each.name])) for each in chosen]
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as faults, tempfile.TemporaryDirectory() as engine:
        os.environ[FOLDER] = faults
        with local_stack(scenarios, Path(engine), "travel", {}, lambda _: None, wait_scale=0) as local:
            local.stack.by = "ana"
            world = World(local.stack, Faults(Path(faults)), local.engine.client)
            write_definitions(folder, register_agents(world, given.version))
            for situation in chosen:
                kept = situation.keep(world, given.version, days[situation.name])
                if {version_of(item) for item in kept.tables[AGENTS] if is_state(item)} != {given.version}:
                    sys.exit(f"{situation.name}: this code does not write records of version {given.version}")
                write(folder / f"{situation.name}.json", kept)
                items = sum(map(len, kept.tables.values()))
                console.print(f"{items:>4} items  {situation.name}: {situation.what}")


def first_day(version: int) -> dt.date:
    """Return the first day of a version's flights: in a year of its own, long after any test."""
    return dt.date(2100 + version, 1, 1)


if __name__ == "__main__":
    main()
