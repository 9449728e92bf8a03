"""The wheel: both packages and what they read, no other module, and a command that works from it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.rooms import ROOT

pytestmark = pytest.mark.xdist_group("engines")
TURNSTILE = "import sys; from turnstile_cli.cli import app; app(args=sys.argv[1:])"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that an installer would fill."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("turnstile_agents-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, folder: Path, code: str, *arguments: str) -> str:
    """Run Python with the wheel's packages in a folder of its own; return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "100"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_no_other_module(unpacked: Path) -> None:
    names = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"turnstile_agents", "turnstile_cli"}
    assert all((unpacked / name / "py.typed").is_file() for name in names)


def test_its_command_is_its_own(unpacked: Path, tmp_path: Path) -> None:
    code = "import turnstile_agents as a, turnstile_cli.files as f; print(a.__file__, f.TEMPLATE, f.ASL, f.AGENTS)"
    paths = [Path(each) for each in run(unpacked, tmp_path, code).split()]
    assert all(path.is_relative_to(unpacked) and path.exists() for path in paths)
    assert " demo " in run(unpacked, tmp_path, TURNSTILE, "--help")
    assert "ClaimTurn" in run(unpacked, tmp_path, TURNSTILE, "draw", "agent_turn")


def test_its_demo_runs(unpacked: Path, tmp_path: Path) -> None:
    assert "COMPLETED in " in run(unpacked, tmp_path, TURNSTILE, "demo")


def test_a_tool_imports_from_the_package(unpacked: Path, tmp_path: Path) -> None:
    code = "from turnstile_agents import ToolCall, ToolOutcomeUnknown, ToolRejected, ToolUnavailable, tool; print(tool)"
    assert "function tool" in run(unpacked, tmp_path, code)
