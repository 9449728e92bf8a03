"""Step Functions Local. A fake `docker` runs the strict engine, with the image's differences, in its place."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.limits import within_limits
from tests.strict.telling import await_change_of_status
from tests.world import World, scenario
from turnstile_agents.events import AgentRequested
from turnstile_agents.record import Status
from turnstile_cli.cli import app
from turnstile_cli.cli.console import Lines
from turnstile_cli.cli.demo import play
from turnstile_cli.engines import step_functions_local, strict
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.faults import Faults
from turnstile_cli.engines.process import HOST, free_port
from turnstile_cli.local.mocks import mock_config
from turnstile_cli.local.stack import local_stack
from turnstile_cli.stack.client import RequestRefused

pytestmark = pytest.mark.xdist_group("step-functions-local")

SCENARIO = "straight_booking"
UNREACHABLE = f"http://{HOST}:9"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that lists each call of docker on its own line."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "fake_docker.py", folder / "docker")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("FAKE_DOCKER_PYTHON", sys.executable)
    return folder / "calls"


def test_a_scenario_from_the_event_to_the_end(docker: Path, tmp_path: Path) -> None:
    found = scenario(SCENARIO)
    with (
        local_stack([found], tmp_path, found.agent, {}, lambda _: None, 0, step_functions_local.start) as local,
        within_limits(local.stack.stepfunctions),
    ):
        sent = local.stack.request(AgentRequested(prompt=found.prompt, agent=found.agent))
        local.stack.wait_for(sent)
        *_, last = local.stack.watch(sent.agent_id)
        assert last.status is Status.COMPLETED
        refused = local.stack.request(AgentRequested(prompt=found.prompt, agent="unknown"))
        with pytest.raises(RequestRefused, match="unknown"):
            local.stack.wait_for(refused)
        await_change_of_status(World(local.stack, Faults(tmp_path), local.engine.client))
    started, ended = [line for line in docker.read_text().splitlines() if line.startswith(("run", "rm"))]
    assert "--env DYNAMODB_ENDPOINT=http://127.0.0.2:" in started
    assert started.endswith("amazon/aws-stepfunctions-local:2.0.0")
    assert ended == f"rm --force {started.split()[3]}"


def test_a_running_engine_is_attached_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    port, embedded = free_port(), free_port()
    with strict.serve(port, f"http://{HOST}:{embedded}", tmp_path, wait_scale=0):
        url = f"http://{HOST}:{port}"
        with pytest.raises(EngineError, match="reads mocks only when it starts; stop it first"):
            step_functions_local.check_stopped(url)
        report = play(SCENARIO, Lines(), partial(step_functions_local.attach, url, embedded))
    assert report.agent.status is Status.COMPLETED


def test_without_a_running_engine_the_error_says_how_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_functions_local, "ANSWER_SECONDS", 0)
    url = f"http://{HOST}:{free_port()}"
    with (
        pytest.raises(EngineError, match=f"answers on {url}; start its jar with LAMBDA_ENDPOINT=.*:4566 "),
        step_functions_local.attach(url, 4566, "", tmp_path),
    ):
        pass


def test_the_user_is_asked_to_start_an_engine_with_mocks(tmp_path: Path) -> None:
    port, told = free_port(), list[str]()
    url, file = f"http://{HOST}:{port}", tmp_path / "mocks.json"
    file.write_text(json.dumps(mock_config([])), "utf-8")
    step_functions_local.check_stopped(url)
    with pytest.raises(EngineError, match=f"has answered on {url} within 0 seconds"):
        step_functions_local.await_start(url, file, told.append, seconds=0)
    with strict.serve(port, UNREACHABLE, tmp_path, mocks=file):
        step_functions_local.await_start(url, file, told.append)
    assert f"on {url} now, with SFN_MOCK_CONFIG={file} AWS_ACCOUNT_ID=000000000000" in told[0]


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
