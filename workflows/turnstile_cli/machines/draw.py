"""Draw the graph of a state machine: as Mermaid, which GitHub shows, as SVG and as PNG.

Graphviz's `dot`, from the package graphviz-pure, lays out SVG and PNG: it needs no system package and no browser, and
the same graph gives the same bytes on every machine.
"""

import html
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from turnstile_cli.files import ASL
from turnstile_cli.machines.definition import Machine, load_machine, load_machines
from turnstile_cli.machines.graph import Box, Edge, Node, graph, walked
from turnstile_cli.machines.trace import Run, Visit

FONT = "Helvetica"
"""The font in which Graphviz measures."""
FONTS = "Arial,Helvetica,Liberation Sans,sans-serif"
"""The fonts of an SVG. The first three are as wide as Graphviz measures; where none is installed, the last is wider."""
WIDEST = 1.2
"""How much wider a text may be than in Arial: in DejaVu Sans or Verdana it is. An SVG is drawn larger by this factor
than Graphviz made it, and its text is not, so that the text fits its boxes in any of these fonts."""
INK, LINE, FAINT, RED, GREEN = "#111827", "#4b5563", "#c3c9d2", "#c62828", "#1b7f3b"


class DrawError(Exception):
    """A picture could not be made; the message says why."""


@dataclass(frozen=True)
class Look:
    """The look of a kind of state: colours, shape and style."""

    fill: str
    line: str
    shape: str = "box"
    style: str = "rounded,filled"
    mermaid: str = "[{}]"


LOOKS = {
    "Lambda": Look("#ffe8cc", "#d9730d"),
    "DynamoDB": Look("#dbe9ff", "#2f6fd0"),
    "Bedrock": Look("#d3f5ea", "#0f8a6d"),
    "Task": Look("#efe3ff", "#7a4fc4"),
    "Choice": Look("#fff7cc", "#b59a00", shape="hexagon", style="filled", mermaid="{{{}}}"),
    "Pass": Look("#f3f4f6", "#9aa2af"),
    "Wait": Look("#e7eaee", "#6b7280", shape="cds", style="filled", mermaid="[/{}/]"),
    "Map": Look("#f8fafc", "#64748b"),
    "Succeed": Look("#d9f2df", GREEN, style="rounded,filled,bold", mermaid="([{}])"),
    "Fail": Look("#ffdede", RED, style="rounded,filled,bold", mermaid="([{}])"),
    "Folded": Look("#ffecec", RED, style="rounded,filled,dashed"),
}
"""The look of each state; the key is the service that a Task calls, or the state's type."""


def _class(node: Node) -> str:
    """Return the key of a node's look in `LOOKS`."""
    service = node.about.partition(" ")[0]
    return service if service in LOOKS else node.kind


def _caught(node: Node, box: Box) -> list[str]:
    """Return a line for each Catch of a node. They are written in the node: an arrow for each would hide the others."""
    edges = [edge for edge in box.edges if edge.caught and edge.source == node.name]
    return [f"{edge.label or 'any error'} → {edge.target}" for edge in edges]


def svg(boxes: Sequence[Box]) -> str:
    """Draw the graphs of some machines side by side, as SVG.

    Raises:
        DrawError: the layout failed.
    """
    drawn = _layout(boxes, "svg").decode("utf-8")
    drawn = _GROUP.sub(_centred, drawn)
    drawn = _SIZE.sub(lambda found: f'{found[1]}="{float(found[2]) * WIDEST:.0f}pt"', drawn, count=2)
    drawn = _FONT_SIZE.sub(lambda found: f'font-size="{float(found[1]) / WIDEST:.2f}"', drawn)
    return drawn.replace('"Helvetica,sans-Serif"', f'"{FONTS}"')


def png(boxes: Sequence[Box]) -> bytes:
    """Draw the graphs as PNG. graphviz-pure has the font itself.

    Raises:
        DrawError: the layout failed.
    """
    return _layout(boxes, "png")


PICTURES: dict[str, Callable[[Sequence[Box]], bytes]] = {".svg": lambda boxes: svg(boxes).encode("utf-8"), ".png": png}
"""The functions that draw a file; the key is the file's ending."""


def save(file: Path, drawn: bytes) -> None:
    """Write a picture. Raise DrawError if the file cannot be written."""
    try:
        file.write_bytes(drawn)
    except OSError as error:
        raise DrawError(f"{file} cannot be written: {error.strerror}") from error


def find_machine(name: str) -> Machine:
    """Load the machine whose file in asl/ has this name. Raise DrawError if there is none."""
    path = ASL / f"{name}.asl.yaml"
    if not path.is_file():
        known = ", ".join(machine.name for machine in load_machines(ASL))
        raise DrawError(f"There is no machine {name}; the machines are {known}")
    return load_machine(path)


def way(runs: Sequence[Run]) -> list[Box]:
    """Return the graphs of the machines of some executions, with the way that these took.

    In a picture, visited states are coloured and failed ones are red. Raise DrawError if an execution is of a machine
    that is not in asl/.
    """
    visits: dict[str, list[Sequence[Visit]]] = {}
    for run in runs:
        # <stack>-AgentTurn is asl/agent_turn.asl.yaml.
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", run.execution.machine.rpartition("-")[2]).lower()
        visits.setdefault(name, []).append(run.visits)
    return [walked(graph(find_machine(name)), found) for name, found in visits.items()]


# ---- SVG and PNG

_GROUP = re.compile(r'<g id="node.*?</g>', re.DOTALL)
_SIZE = re.compile(r'(width|height)="([\d.]+)pt"')
_FONT_SIZE = re.compile(r'font-size="([\d.]+)"')


def _layout(boxes: Sequence[Box], form: str) -> bytes:
    program = Path(sysconfig.get_path("scripts")) / "graphviz-pure"
    try:
        done = subprocess.run(
            [program, f"-T{form}"], input=dot(boxes).encode("utf-8"), capture_output=True, check=False
        )
    except OSError as error:
        raise DrawError(f"{program} could not be run: {error.strerror}; `pip install -e .` installs it") from error
    if done.returncode:
        raise DrawError(f"{program} could not draw the graph: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout


def _centred(group: re.Match[str]) -> str:
    """Centre each text of a state in its shape, however wide the text is; Graphviz says only where it begins."""
    text = group[0]
    shape = re.search(r' (?:d|points)="([^"]+)"', text)
    if shape is None:
        return text
    across = [float(x) for x in re.findall(r"(-?[\d.]+),", shape[1])]
    middle = (min(across) + max(across)) / 2
    return re.sub(r'text-anchor="start" x="[^"]+"', f'text-anchor="middle" x="{middle:.2f}"', text)


# ---- Mermaid


def mermaid(box: Box) -> str:
    """Write a machine's graph in Mermaid's language, for a Markdown block."""
    lines = ["flowchart TD", *_flowchart(box, "    ")]
    used = {name for name in _classes(box) if name}
    lines += [
        f"    classDef {name} fill:{each.fill},stroke:{each.line},color:{INK}"
        for name, each in LOOKS.items()
        if name in used
    ]
    return "\n".join(lines) + "\n"


def _flowchart(box: Box, indent: str) -> Iterator[str]:
    inner = box.inner
    for node in box.nodes:
        if node.name not in inner:
            text = _mermaid_text(node, box)
            yield f"{indent}{_id(node.name)}" + LOOKS[_class(node)].mermaid.format(f'"{text}"') + f":::{_class(node)}"
    for edge in box.edges:
        if not edge.caught:
            label = edge.label.replace("\n", " ").replace('"', "'")
            arrow = f'-->|"{label}"|' if label else "-->"
            # Arrows go to and from the states in a box: Mermaid puts a box with arrows of its own above all else.
            targets = [part.start for part in inner.get(edge.target, [])] or [edge.target]
            sources = [name for part in inner.get(edge.source, []) for name in _well_ends(part)] or [edge.source]
            yield from (f"{indent}{_id(source)} {arrow} {_id(target)}" for source in sources for target in targets)
    for node in box.nodes:
        for part in inner.get(node.name, []):
            yield f'{indent}subgraph {_id(part.title)} ["{_mermaid_text(node, box)}"]'
            yield from _flowchart(part, indent + "    ")
            yield f"{indent}end"


def _mermaid_text(node: Node, box: Box) -> str:
    return "<br/>".join([node.name, *(f"<i>{line}</i>" for line in [node.about, *_caught(node, box)] if line)])


def _id(name: str) -> str:
    return re.sub(r"\W", "", name)


def _classes(box: Box) -> Iterator[str]:
    yield from (_class(node) for node in box.nodes if node.name not in box.inner)
    for part in box.boxes:
        yield from _classes(part)


# ---- Graphviz

_LEFT = '<br align="left"/>'
"""Ends a line that begins at the left."""


def dot(boxes: Sequence[Box]) -> str:
    """Write the graphs in Graphviz's language."""
    lines = [
        "digraph {",
        "  graph [compound=true, newrank=true, nodesep=0.25, ranksep=0.4, pad=0.2]",
        f'  graph [fontname="{FONT}", fontcolor="{INK}"]',
        f'  node [fontname="{FONT}", fontsize=12, fontcolor="{INK}", margin="0.14,0.06", height=0.3]',
        f'  edge [fontname="{FONT}", fontsize=9, fontcolor="{LINE}", color="{LINE}", arrowsize=0.6]',
    ]
    for number, box in enumerate(boxes):
        lines += _cluster(box, f"m{number}.", "  ", outermost=True)
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(box: Box, prefix: str, indent: str, outermost: bool = False, title: str = "") -> Iterator[str]:
    """Write a box as a cluster. `prefix` distinguishes states of the same name in different machines."""
    size, fill = (18, "white") if outermost else (12, LOOKS["Map"].fill)
    yield f'{indent}subgraph "cluster {prefix}{box.title}" {{'
    yield f"{indent}  label=<{title or f'<b>{html.escape(box.title)}</b>'}>; labeljust=l; fontsize={size}"
    yield f'{indent}  peripheries=1; style="rounded,filled"; fillcolor="{fill}"; color="{LOOKS["Map"].line}"'
    if outermost:
        # The good states and the failure states each stand in their own part, side by side.
        well = 'label=""; peripheries=0; style=""'
        wrong = f'label="when something fails"; fontsize=11; peripheries=1; style="rounded,dashed"; color="{RED}"'
        for apart, attributes in ((False, well), (True, wrong)):
            if nodes := [node for node in box.nodes if node.apart == apart]:
                yield f'{indent}  subgraph "cluster {prefix}{box.title} {apart}" {{'
                yield f"{indent}    {attributes}"
                for node in nodes:
                    yield from _state(node, box, prefix, indent + "    ")
                yield f"{indent}  }}"
    else:
        for node in box.nodes:
            yield from _state(node, box, prefix, indent + "  ")
        yield f'{indent}  "{prefix}{box.title} end" [style=invis, shape=point, width=0.01, height=0.01]'
        for name in _ends(box):
            yield f'{indent}  "{prefix}{name}" -> "{prefix}{box.title} end" [style=invis, weight=0]'
    failures = {node.name for node in box.nodes if node.apart}
    for edge in box.edges:
        if not edge.caught or edge.times or edge.target in failures:
            yield f"{indent}  {_dot_edge(edge, box, prefix)}"
    yield f"{indent}}}"


def _state(node: Node, box: Box, prefix: str, indent: str) -> Iterator[str]:
    inside = box.inner.get(node.name, [])
    for part in inside:
        yield from _cluster(part, prefix, indent, title="".join(f"{each}{_LEFT}" for each in _lines(node, box)))
    if not inside:
        yield indent + _dot_node(node, box, prefix)


def _lines(node: Node, box: Box) -> list[str]:
    """Write the lines of text in a state, as Graphviz's HTML."""
    works = node.kind in ("Task", "Map", "Parallel")
    name = html.escape(node.name) + (f"  ×{node.times}" if node.times > 1 else "")
    lines = [f"<b>{name}</b>" if works else name]
    if node.about:
        lines.append(f'<font point-size="9">{html.escape(node.about)}</font>')
    if not box.walked:
        lines += [f'<font point-size="8" color="{RED}">{html.escape(text)}</font>' for text in _caught(node, box)]
    if node.error:
        lines.append(f'<font point-size="9" color="{RED}">{html.escape(node.error)}</font>')
    return lines


def _dot_node(node: Node, box: Box, prefix: str) -> str:
    looks = LOOKS[_class(node)]
    faint = box.walked and not node.times
    fill, line, ink = ("white", FAINT, FAINT) if faint else (looks.fill, looks.line, INK)
    if node.failed:
        fill, line = "#ffb4b4", RED
    style = f"{looks.style},dashed" if node.apart else looks.style
    attributes = [
        f'label=<{"<br/>".join(_lines(node, box))}>, shape={looks.shape}, style="{style}"',
        f'fillcolor="{fill}", color="{line}", fontcolor="{ink}", penwidth={2.2 if box.walked and not faint else 1}',
    ]
    return f'"{prefix}{node.name}" [{", ".join(attributes)}]'


def _dot_edge(edge: Edge, box: Box, prefix: str) -> str:
    ends, attributes = [], []
    for name, key in ((edge.source, "ltail"), (edge.target, "lhead")):
        inside = box.inner.get(name)
        if inside:
            # An edge to a box is an edge to a state in it, cut off at the box's border.
            attributes.append(f'{key}="cluster {prefix}{inside[0].title}"')
            name = inside[0].start if key == "lhead" else f"{inside[0].title} end"
        ends.append(f'"{prefix}{name}"')
    if box.walked and not edge.caught:
        attributes.append("penwidth=2.2" if edge.times else f'color="{FAINT}", fontcolor="{FAINT}"')
    if edge.label and not edge.caught:
        attributes.append(f'label="{edge.label}"'.replace("\n", "\\n"))
    if edge.caught:
        # The state's text shows the Catch; the invisible edge only places the target further down.
        attributes.append(f'color="{RED}", penwidth=2.2, style=dashed' if edge.times else "style=invis, weight=0")
    else:
        attributes.append("weight=4")
    return f"{' -> '.join(ends)} [{', '.join(attributes)}]"


def _well_ends(box: Box) -> list[str]:
    """Return the states that end a box, without the states that only failures lead to."""
    apart = {node.name for node in box.nodes if node.apart}
    return [name for name in _ends(box) if name not in apart] or _ends(box)


def _ends(box: Box) -> list[str]:
    """Return the states that end a box."""
    leaving = {edge.source for edge in box.edges if not edge.caught}
    return [node.name for node in box.nodes if node.name not in leaving]
