"""Lint every machine in asl/: statelint checks its meaning, our own rules check how it is written.

Prints `file: problem` or `file:line: problem`, and exits with 1 if it finds a problem.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from statelint.linter import Linter

from turnstile_cli.machines.definition import InvalidDefinition, Machine, load_machine

ASL = Path(__file__).parents[1] / "asl"


STRICT_BOOLEAN = re.compile(r"y|n|yes|no|on|off|true|false", re.IGNORECASE)
"""The words that strict YAML 1.1 reads as booleans (https://yaml.org/type/bool.html); PyYAML reads `y`, `n` as text."""
COMPOUND = frozenset({"And", "Or"})


def problems(machine: Machine) -> Iterator[str]:
    """Yield the problems that statelint finds in a machine."""
    yield from Linter.validate(machine.definition)


def style_problems(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line, from 1, and the complaint for each rule that is not written as one row.

    A row is one retrier, one catcher or one leaf rule of a Choice, in YAML's flow style, on two lines at most.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    if root is not None:
        yield from _style(root)


def _style(node: yaml.Node) -> Iterator[tuple[int, str]]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _style(item)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.style is None and STRICT_BOOLEAN.fullmatch(key.value):
            yield key.start_mark.line + 1, f'quote the key: "{key.value}" is a boolean in strict YAML 1.1'
        if key.value in ("Retry", "Catch", "Choices") and isinstance(value, yaml.SequenceNode):
            for rule in value.value:
                yield from _rows(rule)
        yield from _style(value)


def _rows(rule: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield a complaint for each leaf of a rule that is not one row."""
    parts = {key.value: value for key, value in rule.value} if isinstance(rule, yaml.MappingNode) else {}
    inside = [item for name in COMPOUND & parts.keys() for item in parts[name].value]
    if not inside and "Not" in parts and {key.value for key, _ in parts["Not"].value} & COMPOUND:
        inside = [parts["Not"]]
    for leaf in inside:
        yield from _rows(leaf)
    row = parts.get("Not", rule) if "Next" in parts else rule
    in_flow = isinstance(row, yaml.MappingNode) and row.flow_style
    if not inside and (not in_flow or row.end_mark.line - row.start_mark.line > 1):
        yield rule.start_mark.line + 1, "write the rule as one row, in flow style: { …, Next: … }"


def main() -> int:
    """Lint all machines, so that one run shows every problem. Return the exit status."""
    complaints = []
    files = sorted(ASL.glob("*.asl.yaml"))
    for path in files:
        try:
            name = path.relative_to(ASL.parent)
            complaints += [f"{name}: {problem}" for problem in problems(load_machine(path))]
            complaints += [f"{name}:{line}: {problem}" for line, problem in style_problems(path.read_text("utf-8"))]
        except InvalidDefinition as error:
            complaints.append(str(error))
    if not files:
        complaints.append(f"{ASL} holds no machine")
    print(*complaints, sep="\n", end="\n" if complaints else "")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
