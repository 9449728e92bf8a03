"""Step Functions Local, with a `docker` that runs the strict engine in the place of the image."""

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.record import Status
from workflows.cli import app
from workflows.console import Lines
from workflows.demo import play
from workflows.engines import step_functions_local, strict
from workflows.engines.errors import EngineError
from workflows.engines.process import HOST, free_port

pytestmark = pytest.mark.xdist_group("step-functions-local")

SCENARIO = "straight_booking"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which each call of docker is a line."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "fake_docker.py", folder / "docker")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FAKE_DOCKER_PYTHON", sys.executable)
    return folder / "calls"


def test_a_scenario_from_the_event_to_the_end(docker: Path) -> None:
    report = play(SCENARIO, Lines(), step_functions_local.start)
    assert report.agent.status is Status.COMPLETED
    started, ended = [line for line in docker.read_text().splitlines() if line.startswith(("run", "rm"))]
    assert "--env DYNAMODB_ENDPOINT=http://127.0.0.2:" in started
    assert started.endswith("amazon/aws-stepfunctions-local:2.0.0")
    assert ended == f"rm --force {started.split()[3]}"


def test_one_that_runs_is_attached_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    port, embedded = free_port(), free_port()
    with strict.serve(port, f"http://{HOST}:{embedded}", tmp_path, wait_scale=0):
        report = play(SCENARIO, Lines(), partial(step_functions_local.attach, f"http://{HOST}:{port}", embedded))
    assert report.agent.status is Status.COMPLETED


def test_where_none_runs_it_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_functions_local, "ANSWER_SECONDS", 0)
    url = f"http://{HOST}:{free_port()}"
    with (
        pytest.raises(EngineError, match=f"answers on {url}; start one, jar or image, with LAMBDA_ENDPOINT=.*:4566 "),
        step_functions_local.attach(url, 4566, "", tmp_path),
    ):
        pass


@pytest.mark.parametrize(("command", "problem"), [("exit 1", "whose daemon does not answer"), ("", "is not installed")])
@pytest.mark.parametrize("subcommand", ["demo", "up"])
def test_without_docker_it_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subcommand: str, command: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    if command:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / "docker").chmod(0o755)
    result = CliRunner().invoke(app, [subcommand, "--engine", "step-functions-local"])
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert problem in line
    assert "--url`, or take --engine strict" in line


def test_mocks_are_given_to_the_image(tmp_path: Path) -> None:
    file = tmp_path / "mocks.json"
    command = " ".join(step_functions_local.docker_command("name", 1, {}, file))
    inside = "/home/StepFunctionsLocal/MockConfigFile.json"
    assert f"--env SFN_MOCK_CONFIG={inside} --mount type=bind,readonly,source={file},destination={inside} " in command
