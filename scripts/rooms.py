"""Show the rooms of the two packages, and which imports which. Exits with 1 on a wrong import.

A room is a folder of a package, or the modules directly in it. FLOORS lists the rooms from the lowest to the highest: a
room imports only from lower ones. Modules import each other in no circle.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "functions", ROOT / "workflows")
FLOORS = (
    "turnstile_agents",
    "turnstile_agents.read_reply",
    "turnstile_agents.load_turn",
    "turnstile_agents.load_recovery",
    "turnstile_agents.load_watch",
    "turnstile_agents.api",
    "turnstile_cli",
    "turnstile_cli.machines",
    "turnstile_cli.engines",
    "turnstile_cli.models",
    "turnstile_cli.stack",
    "turnstile_cli.verify",
    "turnstile_cli.local",
    "turnstile_cli.chaos",
    "turnstile_cli.cli",
)


def modules() -> dict[str, Path]:
    """Return every module of the two packages, by its name."""
    found = {}
    for source in SOURCES:
        for file in source.glob("turnstile_*/**/*.py"):
            parts = file.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(known: dict[str, Path]) -> dict[str, set[str]]:
    """Return which modules each module imports. What only the type checker reads counts too."""
    return {name: {each for each in _imported(file, known) if each != name} for name, file in known.items()}


def room(module: str, known: dict[str, Path]) -> str:
    """Return the room that a module is in."""
    package, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    is_folder = f"{package}.{folder}" in known and known[f"{package}.{folder}"].name == "__init__.py"
    return f"{package}.{folder}" if folder and is_folder else package


def arrows(found: dict[str, set[str]], known: dict[str, Path]) -> dict[tuple[str, str], set[str]]:
    """Return the imports between rooms: from which to which, with the modules that import."""
    between: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for module, others in found.items():
        for other in others:
            pair = room(module, known), room(other, known)
            if pair[0] != pair[1]:
                between[pair].add(f"{module} imports {other}")
    return dict(between)


def upward(between: dict[tuple[str, str], set[str]]) -> list[str]:
    """Return the imports that run upward, or between rooms that FLOORS does not name."""
    return sorted(
        each
        for (one, other), names in between.items()
        for each in names
        if not {one, other} <= set(FLOORS) or FLOORS.index(one) < FLOORS.index(other)
    )


def circle(found: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle; empty if there are none."""
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _imported(file: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in known:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in inside)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def main() -> int:
    """Print the rooms with what they import."""
    known = modules()
    found = imports(known)
    between = arrows(found, known)
    for each in FLOORS:
        inside = [name for name in known if room(name, known) == each]
        to = ", ".join(sorted(other for one, other in between if one == each)) or "nothing"
        print(f"{each}  {len(inside)} modules, imports {to}")
    wrong = [*upward(between), *circle(found)]
    print(f"\n{len(FLOORS)} rooms, {len(between)} arrows, {len(upward(between))} imports upward")
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
