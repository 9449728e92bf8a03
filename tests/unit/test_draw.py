"""Machines as pictures: their edges, the states of failures, and the way of an agent."""

import datetime as dt
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from turnstile_agents.items import Record
from turnstile_cli.cli import app
from turnstile_cli.files import ASL
from turnstile_cli.machines.definition import Machine, load_machines
from turnstile_cli.machines.draw import DrawError, dot, mermaid, svg, way
from turnstile_cli.machines.graph import Box, Edge, Node, folded, graph, walked
from turnstile_cli.machines.trace import Execution, Run, Visit

MACHINES = load_machines(ASL)
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SAMPLE = Machine(
    "sample",
    {
        "StartAt": "Check",
        "States": {
            "Check": {
                "Type": "Choice",
                "Choices": [
                    {
                        "And": [
                            {"Variable": "$.detail.text", "IsPresent": True},
                            {"Not": {"Variable": "$.detail.text", "StringEquals": ""}},
                        ],
                        "Next": "Work",
                    },
                    {
                        "Or": [
                            {"Variable": "$.item.kind.S", "StringEquals": "A"},
                            {"Variable": "$.item.kind.S", "StringEquals": "B"},
                        ],
                        "Next": "Work",
                    },
                    {"Variable": "$.used", "NumericGreaterThanEqualsPath": "$.limits.steps", "Next": "Each"},
                    {"Variable": "$.item.kind.S", "StringEquals": "C", "Next": "Work"},
                ],
                "Default": "Refused",
            },
            "Work": {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:dynamodb:putItem.waitForTaskToken",
                "Catch": [
                    {"ErrorEquals": ["Busy", "DynamoDb.LateException"], "Next": "Done"},
                    {"ErrorEquals": ["States.ALL"], "Next": "Broken"},
                ],
                "Next": "Done",
            },
            "Each": {
                "Type": "Map",
                "ItemProcessor": {
                    "StartAt": "Call",
                    "States": {
                        "Call": {
                            "Type": "Task",
                            "Resource": "arn:aws:states:::lambda:invoke",
                            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "CallFailed"}],
                            "End": True,
                        },
                        "CallFailed": {"Type": "Pass", "End": True},
                    },
                },
                "Next": "Done",
            },
            "Done": {"Type": "Succeed"},
            "Broken": {"Type": "Pass", "Next": "Failed"},
            "Failed": {"Type": "Fail"},
            "Refused": {"Type": "Fail"},
        },
    },
)


def visit(state: str, iteration: int | None = None, error: str = "", seconds: float | None = 1) -> Visit:
    return Visit(state, "Task", NOON, {}, iteration, seconds, {}, 1, error)


def nodes(box: Box) -> dict[str, Node]:
    return {node.name: node for part in (box, *box.boxes) for node in part.nodes}


def edges(box: Box) -> dict[tuple[str, str, bool], Edge]:
    return {(edge.source, edge.target, edge.caught): edge for part in (box, *box.boxes) for edge in part.edges}


def run(machine: str, *visits: Visit) -> Run:
    execution = Execution(
        arn="arn", machine=machine, status="FAILED", started=NOON, stopped=NOON, input={}, error="", cause=""
    )
    return Run(execution=execution, visits=list(visits), transitions=len(visits))


# ---- The graph


def test_a_choice_says_in_a_few_words_what_it_asks() -> None:
    found = edges(graph(SAMPLE))
    assert found["Check", "Work", False].label == "text ≠ nothing …\nkind = A or B or C"
    assert found["Check", "Each", False].label == "used ≥ steps"
    assert found["Check", "Refused", False].label == "otherwise"


def test_a_task_says_what_it_calls_and_what_its_errors_lead_to() -> None:
    box = graph(SAMPLE)
    assert nodes(box)["Work"].about == "DynamoDB putItem, waits for an answer"
    assert nodes(box)["Call"].about == "Lambda"
    assert edges(box)["Work", "Done", True].label == "Busy, DynamoDb.Late"
    assert edges(box)["Work", "Broken", True].label == ""


def test_the_states_of_failures_stand_apart() -> None:
    apart = {name for name, node in nodes(graph(SAMPLE)).items() if node.apart}
    assert apart == {"Broken", "Failed", "Refused", "CallFailed"}


def test_folded_keeps_one_node_for_the_failures() -> None:
    found = folded(graph(SAMPLE))
    assert set(nodes(found)) == {"Check", "Work", "Each", "Done", "Call", "A failure"}
    assert nodes(found)["A failure"].about == "3 states"
    assert ("Check", "A failure", False) in edges(found)
    assert not any(edge.caught for edge in edges(found).values())


def test_where_nothing_leads_to_a_failure_but_errors_no_node_stands_for_it() -> None:
    machine = Machine(
        "m",
        {
            "StartAt": "A",
            "States": {
                "A": {
                    "Type": "Task",
                    "Resource": "arn:aws:states:::sns:publish",
                    "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "B"}],
                    "End": True,
                },
                "B": {"Type": "Fail"},
            },
        },
    )
    assert set(nodes(folded(graph(machine)))) == {"A"}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_state_and_every_way_of_a_machine_is_in_its_graph(machine: Machine) -> None:
    box = graph(machine)
    assert sorted(nodes(box)) == sorted(state.name for state in machine.states())
    led = {(edge.source, edge.target) for edge in edges(box).values()}
    assert led == {(state.name, target) for state in machine.states() for target in state.successors}
    apart = {name for name, node in nodes(box).items() if node.apart}
    assert {node.name for node in nodes(box).values() if node.kind == "Fail"} <= apart
    assert machine.definition["StartAt"] not in apart


# ---- The way of an execution


def test_visits_and_steps_are_counted_each_iteration_by_itself() -> None:
    found = walked(
        graph(SAMPLE),
        [
            [visit("Check"), visit("Each"), visit("Call", 0), visit("Call", 1), visit("CallFailed", 0), visit("Done")],
            [visit("Check"), visit("Work"), visit("Done")],
        ],
    )
    assert {name: node.times for name, node in nodes(found).items() if node.times} == {
        "Check": 2,
        "Each": 1,
        "Call": 2,
        "CallFailed": 1,
        "Work": 1,
        "Done": 2,
    }
    steps = {pair: edge.times for pair, edge in edges(found).items() if edge.times}
    # No step leads from the end of an execution to the start of the next, or from one iteration to another.
    assert {pair[:2] for pair in steps} == {
        ("Check", "Each"),
        ("Each", "Done"),
        ("Check", "Work"),
        ("Work", "Done"),
    }


def test_a_caught_and_a_fatal_error_are_failures_and_a_retried_error_is_not() -> None:
    caught = walked(graph(SAMPLE), [[visit("Check"), visit("Work", error="Late"), visit("Broken")]])
    assert (nodes(caught)["Work"].failed, nodes(caught)["Work"].error) == (True, "Late")
    assert edges(caught)["Work", "Broken", True].times == 1
    ended = walked(graph(SAMPLE), [[visit("Check"), visit("Refused", error="No", seconds=None)]])
    assert nodes(ended)["Refused"].failed
    retried = walked(graph(SAMPLE), [[visit("Check"), visit("Each"), visit("Call", 0, error="Slow"), visit("Done")]])
    assert (nodes(retried)["Call"].failed, nodes(retried)["Call"].error) == (False, "Slow")


def test_the_states_of_failures_are_left_out_if_the_run_did_not_visit_them() -> None:
    found = walked(graph(SAMPLE), [[visit("Check"), visit("Refused", error="No", seconds=None)]])
    assert set(nodes(found)) == {"Check", "Work", "Each", "Call", "Done", "Refused"}


# ---- Mermaid


def test_mermaid_draws_each_state_once_with_its_kind() -> None:
    text = mermaid(graph(SAMPLE))
    assert 'Check{"Check"}:::Choice' in text
    assert 'Refused(["Refused"]):::Fail' in text
    assert "Busy, DynamoDb.Late → Done" in text
    assert "Work --> Done" in text
    assert "Work --> Broken" not in text
    assert re.search(r"subgraph Each .*?Call\[.*?end", text, re.DOTALL)
    for name in nodes(graph(SAMPLE)):
        assert len(re.findall(rf"^ *(?:subgraph )?{name}[ \[\({{]", text, re.MULTILINE)) >= 1


def test_mermaid_leads_into_a_box_and_out_of_it_by_its_states() -> None:
    text = mermaid(graph(SAMPLE))
    assert 'Check -->|"used ≥ steps"| Call' in text
    assert "Call --> Done" in text
    assert "CallFailed --> Done" not in text


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_mermaid_refers_only_to_what_it_has_declared(machine: Machine) -> None:
    for box in (graph(machine), folded(graph(machine))):
        text = mermaid(box)
        declared = set(re.findall(r"^ *(\w+)(?:\[|\{|\()", text, re.MULTILINE))
        for source, target in re.findall(r"^ *(\w+) -->(?:\|[^|]*\|)? (\w+)$", text, re.MULTILINE):
            assert {source, target} <= declared
        classes = set(re.findall(r":::(\w+)", text))
        assert classes == set(re.findall(r"classDef (\w+)", text))


# ---- SVG


def texts(drawn: str) -> list[str]:
    root = ElementTree.fromstring(drawn)
    return [text for element in root.iter() if element.tag.endswith("}text") for text in element.itertext()]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_svg_names_every_state(machine: Machine) -> None:
    drawn = " ".join(texts(svg([graph(machine)])))
    assert [state.name for state in machine.states() if state.name not in drawn] == []


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_catch_is_told(machine: Machine) -> None:
    targets = {(state.name, target) for state in machine.states() for target in state.caught}
    drawn = svg([graph(machine)])
    in_svg = Counter(re.findall(r"→ (\w+)", " ".join(texts(drawn))))
    in_mermaid = Counter(re.findall(r"→ (\w+)", mermaid(graph(machine))))
    told = Counter(target for _, target in targets)
    assert (in_svg, in_mermaid) == (told, told)


def test_the_branches_of_a_parallel_are_boxes_of_their_own() -> None:
    branches = [{"StartAt": name, "States": {name: {"Type": "Pass", "End": True}}} for name in ("Left", "Right")]
    both = {"Type": "Parallel", "Branches": branches, "Next": "Done"}
    box = graph(Machine("m", {"StartAt": "Both", "States": {"Both": both, "Done": {"Type": "Succeed"}}}))
    assert [part.title for part in box.inner["Both"]] == ["Both[0]", "Both[1]"]
    assert {"Both", "Left", "Right", "Done"} <= set(texts(svg([box])))
    assert {"Left --> Done", "Right --> Done"} <= {line.strip() for line in mermaid(box).splitlines()}


def test_the_svg_is_the_same_each_time() -> None:
    assert svg([graph(SAMPLE)]) == svg([graph(SAMPLE)])


def test_the_happy_path_goes_down_and_a_map_is_a_box() -> None:
    root = ElementTree.fromstring(svg([graph(SAMPLE)]))
    groups = {title.text: group for group in root.iter() for title in group if title.tag.endswith("}title")}
    heights = [_top(groups[f"m0.{name}"]) for name in ("Check", "Call", "Done")]
    assert heights == sorted(heights)
    assert "cluster m0.Each" in groups


def _top(group: ElementTree.Element) -> float:
    return min(float(text.attrib["y"]) for text in group.iter() if text.tag.endswith("}text"))


def test_what_failed_is_red_and_what_was_not_visited_steps_back() -> None:
    drawn = dot([walked(graph(SAMPLE), [[visit("Check"), visit("Check"), visit("Work", error="Late", seconds=None)]])])
    assert 'fillcolor="#ffb4b4", color="#c62828"' in _line(drawn, "m0.Work")
    assert "Late" in _line(drawn, "m0.Work")
    assert "×2" in _line(drawn, "m0.Check")
    assert 'fillcolor="white"' in _line(drawn, "m0.Done")


def _line(drawn: str, name: str) -> str:
    return next(line for line in drawn.splitlines() if line.strip().startswith(f'"{name}" ['))


def test_machines_with_states_of_the_same_name_stand_beside_each_other() -> None:
    runs = [run("turnstile-AgentTurn", visit("ClaimTurn")), run("turnstile-AgentStart", visit("CheckRequest"))]
    drawn = svg(way(runs))
    assert {"agent_turn", "agent_start", "ClaimTurn", "CheckRequest"} <= set(texts(drawn))


def test_several_turns_are_one_picture() -> None:
    drawn = svg(way([run("my-stack-AgentTurn", visit("ClaimTurn")), run("my-stack-AgentTurn", visit("ClaimTurn"))]))
    assert any("×2" in text for text in texts(drawn))


def test_an_execution_of_an_unknown_machine_is_refused() -> None:
    with pytest.raises(DrawError, match="no machine other; the machines are agent_"):
        way([run("turnstile-Other")])


def test_a_layout_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("turnstile_cli.machines.draw.sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(DrawError, match="could not be run: No such file"):
        svg([graph(SAMPLE)])
    program = tmp_path / "graphviz-pure"
    program.write_text("#!/bin/sh\necho 'syntax error' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(DrawError, match="could not draw the graph: syntax error"):
        svg([graph(SAMPLE)])


# ---- Fonts

# How wide DejaVu Sans draws a character, in thousandths of the font size. Where Arial and its like are not installed,
# `sans-serif` often means this font; Verdana is as wide.
REGULAR = {
    character: width
    for characters, width in {
        "'": 275,
        "ijl": 278,
        "IJ": 295,
        " ,.": 318,
        "/:;\\|": 337,
        "f": 352,
        "-": 361,
        "()[]": 390,
        "t": 392,
        "!": 401,
        "r": 411,
        '"': 460,
        "*_`": 500,
        "s": 521,
        "z": 525,
        "?": 531,
        "c": 550,
        "L": 557,
        "F": 575,
        "k": 579,
        "vxy": 592,
        "P": 603,
        "TY": 611,
        "o": 612,
        "a": 613,
        "e": 615,
        "E": 632,
        "hnu": 634,
        "Sbdgpq": 635,
        "$0123456789{}": 636,
        "K": 656,
        "AV": 684,
        "XZ": 685,
        "B": 686,
        "R": 695,
        "C": 698,
        "U": 732,
        "N": 748,
        "H": 752,
        "D": 770,
        "G": 775,
        "&": 780,
        "OQ": 787,
        "w": 818,
        "#+<=>^~×→≠≥": 838,
        "M": 863,
        "%": 950,
        "m": 974,
        "W": 989,
        "@…": 1000,
    }.items()
    for character in characters
}
BOLD = {
    character: width
    for characters, width in {
        "'": 306,
        "ijl": 343,
        " ": 348,
        "/\\|": 365,
        "IJ": 372,
        ",.": 380,
        ":;": 400,
        "-": 415,
        "f": 435,
        "!": 456,
        "()[]": 457,
        "t": 478,
        "r": 493,
        "_`": 500,
        '"': 521,
        "*": 523,
        "?": 580,
        "z": 582,
        "c": 593,
        "s": 595,
        "L": 637,
        "x": 645,
        "vy": 652,
        "k": 665,
        "a": 675,
        "e": 678,
        "T": 682,
        "EF": 683,
        "o": 687,
        "$0123456789": 696,
        "hnu{}": 712,
        "bdgpq": 716,
        "S": 720,
        "Y": 724,
        "Z": 725,
        "P": 733,
        "C": 734,
        "B": 762,
        "R": 770,
        "X": 771,
        "AV": 774,
        "K": 775,
        "U": 812,
        "G": 821,
        "D": 830,
        "HN": 837,
        "#+<=>^~×→≠≥": 838,
        "OQ": 850,
        "&": 872,
        "w": 924,
        "M": 995,
        "@…": 1000,
        "%": 1002,
        "m": 1042,
        "W": 1103,
    }.items()
    for character in characters
}


def width(text: ElementTree.Element) -> float:
    """Return how wide DejaVu Sans draws a text."""
    widths = BOLD if text.get("font-weight") == "bold" else REGULAR
    written = (text.text or "").replace("\u00a0", " ")
    return sum(widths[character] for character in written) / 1000 * float(text.attrib["font-size"])


def outside(drawn: str, margin: float = 7) -> list[str]:
    """Return the texts that come nearer to the border of their box than the margin, or stand out of it."""
    found = []
    for group in ElementTree.fromstring(drawn).iter():
        if group.get("class") not in ("node", "cluster"):
            continue
        shape = next((each for each in group if {"d", "points"} & each.attrib.keys()), None)
        for text in group:
            if text.tag.endswith("}text") and shape is not None:
                across = [float(x) for x in re.findall(r"(-?[\d.]+),", shape.get("d") or shape.attrib["points"])]
                left = float(text.attrib["x"]) - (width(text) / 2 if text.get("text-anchor") == "middle" else 0)
                if left < min(across) + margin or left + width(text) > max(across) - margin:
                    found.append(text.text or "")
    return found


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_text_fits_its_box_in_a_font_wider_than_arial(machine: Machine) -> None:
    assert outside(svg([graph(machine)])) == []


def test_the_text_of_a_visited_state_fits_its_box_too() -> None:
    failed = visit("CallWriteTool", 0, error="BedrockRuntime.ModelStreamErrorException")
    walk = [visit("ClaimTurn"), *[visit("CallTools")] * 12, *[visit("CheckpointDecision")] * 12, failed]
    drawn = svg(way([run("turnstile-AgentTurn", *walk)]))
    assert any("×12" in text for text in texts(drawn))
    assert outside(drawn) == []


def test_each_text_of_a_state_stands_in_its_middle() -> None:
    for group in ElementTree.fromstring(svg([graph(SAMPLE)])).iter():
        if group.get("class") == "node":
            places = {(t.get("text-anchor"), t.get("x")) for t in group if t.tag.endswith("}text")}
            assert len(places) <= 1 and all(anchor == "middle" for anchor, _ in places)


# ---- The commands

PNG = b"\x89PNG\r\n\x1a\n"


def test_draw_writes_what_the_file_is_for(tmp_path: Path) -> None:
    cli = CliRunner()
    drawn = cli.invoke(app, ["draw", "agent_watch"]).stdout
    assert drawn.startswith("flowchart TD\n")
    picture, text = tmp_path / "machine.svg", tmp_path / "machine.mmd"
    assert cli.invoke(app, ["draw", "agent_watch", "--folded", "--out", str(picture)]).exit_code == 0
    assert "LookAfterAgents" in texts(picture.read_text("utf-8"))
    assert cli.invoke(app, ["draw", "agent_watch", "--out", str(text)]).exit_code == 0
    assert text.read_text("utf-8") == drawn
    image = tmp_path / "machine.png"
    assert cli.invoke(app, ["draw", "agent_watch", "--out", str(image)]).exit_code == 0
    assert image.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("command", "endings"),
    [(["draw", "agent_watch", "--out"], ".svg or in .png or in .mmd"), (["trace", "a-1", "--draw"], ".svg or in .png")],
)
def test_a_picture_of_another_form_is_refused_before_anything_is_read_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], endings: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*command, "way.gif"], terminal_width=200)
    assert result.exit_code == 2
    assert f"way.gif must end in {endings} " in " ".join(result.output.split())
    assert not (tmp_path / "way.gif").exists()


def test_a_picture_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    file = tmp_path / "no folder" / "machine.svg"
    result = CliRunner().invoke(app, ["draw", "agent_watch", "--out", str(file)])
    assert (result.exit_code, result.stderr) == (1, f"turnstile: {file} cannot be written: No such file or directory\n")


def test_draw_of_an_unknown_machine_says_which_there_are() -> None:
    result = CliRunner().invoke(app, ["draw", "agent"])
    assert result.exit_code == 1
    assert "There is no machine agent; the machines are agent_input, " in result.output


def test_trace_draws_the_way_of_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = run("turnstile-AgentTurn", visit("ClaimTurn"), visit("LoadTurn", error="LeaseLost"), visit("TurnLost"))
    stack = SimpleNamespace(read_agent=lambda _: (None, Record()), trail=lambda _: [turn.execution], run=lambda _: turn)
    monkeypatch.setattr("turnstile_cli.cli.common.connect", lambda _: stack)
    file, image = tmp_path / "way.svg", tmp_path / "way.png"
    # `--state` is about the text: half a way is no picture.
    result = CliRunner().invoke(app, ["trace", "agent-1", "--state", "ClaimTurn", "--draw", str(file)])
    assert result.exit_code == 0, result.output
    assert "ClaimTurn" in result.output
    assert {"LoadTurn", "LeaseLost", "TurnLost"} <= set(texts(file.read_text("utf-8")))
    assert CliRunner().invoke(app, ["trace", "agent-1", "--draw", str(image)]).exit_code == 0
    assert image.read_bytes().startswith(PNG)
